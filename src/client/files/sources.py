"""Files to share: found below arguments, or read from stdin."""

import mimetypes
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..envelopes import KEY_BYTES, NONCE_BYTES
from ..errors import ClientError, WrongUsage
from ..segments import SEALED_SEGMENT_BYTES, SEGMENT_BYTES
from .sizes import write_size

UNKNOWN_TYPE = "application/octet-stream"
Fingerprint = list[int]


class Content(Protocol):
    """The content of a file, in segments."""

    size: int

    def segment(self, index: int) -> bytes:
        """Return a segment. Raises `ClientError`, also if the file has changed."""
        ...


@dataclass(frozen=True)
class LocalFile:
    """A regular file, and the name under which it is shared."""

    path: Path
    name: str
    size: int

    @contextmanager
    def open(self) -> Iterator["FileContent"]:
        """Open the file. Raises `ClientError`."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise cannot_read(self.path, error) from None
        with file:
            yield FileContent(self.path, file)


class FileContent:
    """The content of a file as it was when it was opened."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file = path, file
        self.fingerprint = _take_fingerprint(file)
        self.size = os.fstat(file.fileno()).st_size

    def segment(self, index: int) -> bytes:
        """Return a segment. Raises `ClientError` if the file has changed: its key may only seal one content."""
        try:
            self._file.seek(index * SEGMENT_BYTES)
            content = self._file.read(SEGMENT_BYTES)
        except OSError as error:
            raise cannot_read(self._path, error) from None
        expected = min(SEGMENT_BYTES, self.size - index * SEGMENT_BYTES)
        if len(content) != expected or _take_fingerprint(self._file) != self.fingerprint:
            raise ClientError(f"{self._path} was changed while it was being sent: share it again")
        return content


class SpooledContent:
    """The content of a stream, whose size must be known before it is sent; a context manager.

    Meanwhile it is in a temporary file, encrypted under a key that is only in memory.
    """

    def __init__(self, stream: BinaryIO, largest: int) -> None:
        """Read the stream to its end. Raises `ClientError` if it has more bytes than the ``largest`` file."""
        self.size, self._cipher = 0, AESGCM(AESGCM.generate_key(8 * KEY_BYTES))
        with ExitStack() as on_failure:
            try:
                self._spool = on_failure.enter_context(tempfile.TemporaryFile())
                self._read(stream, largest)
            except OSError as error:
                raise ClientError(f"cannot store stdin in {tempfile.gettempdir()}: {error.strerror}") from None
            on_failure.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def _read(self, stream: BinaryIO, largest: int) -> None:
        while content := stream.read(SEGMENT_BYTES):
            self._spool.write(self._cipher.encrypt(_nonce(self.size // SEGMENT_BYTES), content, None))
            self.size += len(content)
            if self.size > largest:
                raise too_large("stdin", largest)
        self._spool.flush()

    def segment(self, index: int) -> bytes:
        """Return a segment."""
        if not self.size:
            return b""
        self._spool.seek(index * SEALED_SEGMENT_BYTES)
        return self._cipher.decrypt(_nonce(index), self._spool.read(SEALED_SEGMENT_BYTES), None)


def find_files(arguments: Sequence[str]) -> list[LocalFile]:
    """Return the files of arguments that name files or folders. Raises `WrongUsage`.

    Folders are searched recursively, and the names begin with the folder's. Links and special files in folders are
    left out.
    """
    found: list[LocalFile] = []
    for place, argument in enumerate(arguments, 1):
        path = Path(argument)
        try:
            info = path.stat()
        except (OSError, ValueError):
            # The argument is not shown, because it may be a word of the text.
            raise WrongUsage(
                f"argument {place} is not a file or folder. Quote a text of several words, or give it with --text"
            ) from None
        if stat.S_ISDIR(info.st_mode):
            inside = list(_walk(path))
            if not inside:
                raise WrongUsage(f"{path} contains no files")
            found += inside
        elif stat.S_ISREG(info.st_mode):
            found.append(LocalFile(path, _as_text(path.name), info.st_size))
        else:
            raise WrongUsage(f"{path} is not a regular file: use `sealpost share - --name NAME < {path}`")
    return found


def guess_type(name: str) -> str:
    """Return the media type of a file by its name."""
    return mimetypes.guess_type(name)[0] or UNKNOWN_TYPE


def cannot_read(path: Path, error: OSError) -> ClientError:
    """Return the error for a file that cannot be read."""
    return ClientError(f"cannot read {path}: {error.strerror}")


def too_large(name: str, largest: int) -> WrongUsage:
    """Return the error for a file that the server would refuse."""
    return WrongUsage(f"{name} is too large: the server accepts files of up to {write_size(largest)}")


def _walk(folder: Path) -> Iterator[LocalFile]:
    def fail(error: OSError) -> None:
        raise cannot_read(Path(error.filename), error)

    top = folder.resolve().name
    for directory, folders, names in os.walk(folder, onerror=fail):
        folders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                yield LocalFile(path, _as_text(Path(top, path.relative_to(folder)).as_posix()), info.st_size)


def _as_text(name: str) -> str:
    """Return a name without bytes that are not UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _take_fingerprint(file: BinaryIO) -> Fingerprint:
    """Return numbers that change whenever the file is written or replaced."""
    info = os.fstat(file.fileno())
    return [info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]


def _nonce(index: int) -> bytes:
    return index.to_bytes(NONCE_BYTES)
