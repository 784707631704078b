"""Files on disk: private ones, atomic replacement, locks between processes, and rotation.

A lock is a flock on a file or a directory. The kernel releases it however the process that holds it ends.
"""

import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

LOCK_POLL_SECONDS = 0.02
_SECRET = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def open_private(path: Path, mode: str = "ab") -> BinaryIO:
    """Open a file in a binary mode, and create it with mode 0600 if it does not exist."""
    return cast("BinaryIO", open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600)))


@contextmanager
def replacing(path: Path, *, like: os.stat_result | None = None) -> Iterator[BinaryIO]:
    """Yield a new file that replaces the path when the block ends; after a crash, the path is the old file or the new.

    The file has mode 0600, or the mode and owner of ``like``. If the block raises, the path stays as it was. One
    writer at a time may replace a path. Raises `OSError`.
    """
    draft = path.with_name(f".{path.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with open_private(draft, "xb") as file:
            if like is not None:
                os.fchown(file.fileno(), like.st_uid, like.st_gid)
                os.fchmod(file.fileno(), stat.S_IMODE(like.st_mode))
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise


def write_private(path: Path, content: bytes) -> None:
    """Create or replace a file of mode 0600 atomically. Raises `OSError`."""
    with replacing(path) as file:
        file.write(content)


def create_private(path: Path, content: bytes) -> None:
    """Create a file of mode 0600 atomically unless it exists.

    Of several processes, the first wins. Raises `OSError`.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with open_private(draft, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(draft, path)
        sync_directory(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes. Raises `OSError`, in which case some of them may have been written."""
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def sync_directory(path: Path) -> None:
    """Call fsync on a directory: without it, a power failure may lose the names of files created there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(path: Path) -> str | None:
    """Return the 64 hexadecimal digits in a file, or None if it is absent or damaged."""
    text = _read(path)
    return text if _SECRET.fullmatch(text) else None


def read_number(path: Path) -> int | None:
    """Return the number in a file, or None if it is absent or damaged."""
    text = _read(path).strip()
    return int(text) if _NUMBER.fullmatch(text) else None


def take_lock(path: Path, *, shared: bool = False, is_directory: bool = False) -> int:
    """Lock a file, which is created if it does not exist, or a directory; return the descriptor that holds the lock.

    A child process that inherits the descriptor holds the lock as well. Raises `BlockingIOError` if another process
    holds the lock, and `OSError`.
    """
    flags = os.O_RDONLY if is_directory else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release_lock(descriptor: int) -> None:
    """Release a lock, even if a process that was forked meanwhile still has the descriptor."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


@contextmanager
def locked(path: Path, *, patience: float = 0.0, is_directory: bool = False) -> Iterator[None]:
    """Hold an exclusive lock for the block, after waiting up to ``patience`` seconds for it.

    Raises `BlockingIOError` if another process still holds it then, and `OSError`.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            descriptor = take_lock(path, is_directory=is_directory)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(LOCK_POLL_SECONDS)
    try:
        yield
    finally:
        release_lock(descriptor)


def is_locked(path: Path, *, or_shared: bool = False) -> bool:
    """Tell whether a process holds the exclusive lock, or, with ``or_shared``, any lock.

    A file that does not exist is not locked.
    """
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_EX if or_shared else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def rotate(path: Path, backups: int) -> None:
    """Rename a file to ``name.1``, and each older backup to the next number; the oldest is deleted.

    With no backups, the file itself is deleted. A writer has to open the path again.
    """
    names = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, backups + 1))]
    names[-1].unlink(missing_ok=True)
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        with suppress(FileNotFoundError):
            newer.rename(older)


def rotate_at(path: Path, max_bytes: int, backups: int) -> bool:
    """Rotate a file that has grown to ``max_bytes``, and return whether it was rotated."""
    try:
        if path.stat().st_size < max_bytes:
            return False
    except FileNotFoundError:
        return False
    rotate(path, backups)
    return True


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii", errors="replace")
    except FileNotFoundError:
        return ""
