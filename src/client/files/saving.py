"""Files on the reader's disk: written as `.part`, and renamed when they are complete."""

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Self

from ..errors import ClientError

PART = ".part"
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class CannotSave(ClientError):
    """A file cannot be written here. The server still has it."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"cannot write {path}: {error.strerror}")


class PartFile:
    """A file that is being received, readable only by its owner; a context manager.

    ``kept`` is the number of bytes to keep from an earlier run, None if there was none. Symbolic links below the
    directory are not followed. All methods raise `CannotSave`.
    """

    def __init__(self, directory: Path, words: tuple[str, ...], *, kept: int | None, force: bool = False) -> None:
        self.path, self._force = directory.joinpath(*words), force
        self._part = part_of(self.path)
        try:
            _make_folders(directory, words[:-1])
            handle = os.open(self._part, _FLAGS if kept is not None else _FLAGS | os.O_EXCL, 0o600)
            self._file = os.fdopen(handle, "r+b")
            self.position = min(kept or 0, os.fstat(handle).st_size)
            self._file.truncate(self.position)
            self._file.seek(self.position)
        except OSError as error:
            raise CannotSave(self._part, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._file.close()

    def write(self, content: bytes) -> None:
        """Append content."""
        try:
            self._file.write(content)
        except OSError as error:
            raise CannotSave(self._part, error) from None
        self.position += len(content)

    def sync(self) -> None:
        """Make everything up to the position survive a power failure."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise CannotSave(self._part, error) from None

    def finish(self) -> None:
        """Give the complete file its name. Without ``force``, never replaces an existing file."""
        self.sync()
        self._file.close()
        try:
            if self._force:
                self._part.replace(self.path)
            else:
                _rename(self._part, self.path)
        except OSError as error:
            raise CannotSave(self.path, error) from None

    def discard(self) -> None:
        """Delete the incomplete file."""
        with suppress(OSError):
            self._file.close()
            self._part.unlink()


def part_of(path: Path) -> Path:
    """Return the path of the incomplete file."""
    return path.with_name(path.name + PART)


def _make_folders(directory: Path, words: tuple[str, ...]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for word in words:
        directory /= word
        with suppress(FileExistsError):
            directory.mkdir(0o700)
        if directory.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def _rename(source: Path, target: Path) -> None:
    try:
        # Unlike a rename, this fails if the target exists.
        target.hardlink_to(source)
    except FileExistsError:
        raise
    except OSError:
        # The file system has no hard links.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        source.rename(target)
    else:
        source.unlink()
