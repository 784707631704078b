"""The dump file: one process at a time appends lines to it, each exactly once, even after a crash.

A write is announced in the journal first, and counts once the file has all of it. After a crash, the next writer
checks: a complete write is kept, a torn one is truncated.

The file is rotated by size: it is renamed to a name with the time, and a limited number of these is kept. Rotation
happens between writes only, so that a pending write is never looked for in a deleted file.

Other programs may rename or delete the file at any time. It is identified by its inode and looked for in its directory
under any name; a new file is created under the original name.
"""

import errno
import os
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from ...core.files import sync_directory, write_all
from .journal import (
    BEGINNING,
    Checkpoint,
    JournalRecord,
    PendingWrite,
    digest,
    opened,
    read_record,
    write_record,
)

LINE_BREAK = b"\n"
MODE = 0o600
_NAME, _NAME_LENGTH = "%Y%m%dT%H%M%S.%fZ", len("20260301T093000.250000Z")
_PIECE = 1024 * 1024

log = structlog.get_logger(__name__)


class DumpFile:
    """The file at a path. Every method blocks, requires the lock, and raises `OSError`.

    After an error, call `open` again. ``backups`` is the number of rotated files to keep.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self._path = path
        self._record_path = path.with_name(f"{path.name}.state")
        self._max_bytes = max_bytes
        self._backups = backups
        self._descriptor: int | None = None
        self._record = JournalRecord(epoch="", inode=0, offset=0, mark=BEGINNING)
        self.is_settled = True

    def open(self, epoch: bytes) -> Checkpoint:
        """Recover from the last writer, and return the checkpoint up to which the file is complete."""
        self.close()
        record = read_record(self._record_path)
        if record is None or record.epoch != epoch.hex():
            self._begin_anew(known=record is not None)
            mark = BEGINNING
        else:
            mark = self._recover(record)
        inode, offset = self._open_current()
        self._record = JournalRecord(epoch=epoch.hex(), inode=inode, offset=offset, mark=mark)
        self._write_record()
        return mark

    def append(self, lines: bytes, mark: Checkpoint) -> None:
        """Append the lines of the bundles up to a checkpoint; there may be none."""
        if not lines:
            self._record = self._record.model_copy(update={"mark": mark})
            self.is_settled = False
            return
        self._follow()
        offset = self._record.offset
        if offset and offset + len(lines) > self._max_bytes:
            self._rotate()
            offset = self._record.offset
        if offset and os.pread(self._file, 1, offset - 1) != LINE_BREAK:
            # Another program wrote a line without a line break.
            lines = LINE_BREAK + lines
        end = offset + len(lines)
        self._write_record(PendingWrite(end=end, mark=mark, digest=digest(lines)))
        write_all(self._file, lines)
        os.fsync(self._file)
        self._record = self._record.model_copy(update={"offset": end, "mark": mark})
        self.is_settled = False

    def settle(self) -> None:
        """Record that no write is pending."""
        if not self.is_settled:
            self._write_record()

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def _file(self) -> int:
        assert self._descriptor is not None  # noqa: S101 (it was opened)
        return self._descriptor

    def _write_record(self, intended: PendingWrite | None = None) -> None:
        write_record(self._record_path, self._record.model_copy(update={"intended": intended}))
        self.is_settled = intended is None

    def _recover(self, record: JournalRecord) -> Checkpoint:
        """Truncate a torn write, and return the checkpoint up to which the file is complete."""
        intended = record.intended
        if intended is None:
            return record.mark
        path = self._find(record.inode)
        if path is None:
            log.warning("dump file is missing: repeating the interrupted write")
            return record.mark
        with opened(path, os.O_RDWR) as descriptor:
            size = os.fstat(descriptor).st_size
            if size >= intended.end and _digest_of(descriptor, record.offset, intended.end) == intended.digest:
                return intended.mark
            if record.offset < size <= intended.end:
                os.ftruncate(descriptor, record.offset)
                os.fsync(descriptor)
            elif size > intended.end:
                log.error("dump file was modified by another program: repeating the interrupted write at its end")
        return record.mark

    def _find(self, inode: int) -> Path | None:
        """Return the path of a file in the directory by its inode: it may have been renamed."""
        with os.scandir(self._path.parent) as entries:
            return next((Path(entry.path) for entry in entries if entry.inode() == inode), None)

    def _begin_anew(self, *, known: bool) -> None:
        """Rename an existing file: its contents cannot be matched with the database."""
        if _size(self._path):
            target = self._set_aside()
            reason = "of another database" if known else "without a record"
            log.warning("dump restarted: the existing file was renamed", reason=reason, kept=target.name)

    def _follow(self) -> None:
        """Continue in the file that has the name now, after any bytes that other programs appended."""
        if _inode(self._path) != self._record.inode:
            self._reopen()
            return
        size = os.fstat(self._file).st_size
        if size != self._record.offset:
            self._record = self._record.model_copy(update={"offset": size})

    def _reopen(self) -> None:
        self.close()
        inode, offset = self._open_current()
        self._record = self._record.model_copy(update={"inode": inode, "offset": offset})

    def _open_current(self) -> tuple[int, int]:
        """Open the file that has the name now, or a new one, and return its inode and size."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, MODE)
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(self._path))
        if stat.S_IMODE(status.st_mode) != MODE:
            os.fchmod(self._descriptor, MODE)
        return status.st_ino, status.st_size

    def _rotate(self) -> None:
        self.settle()
        self._set_aside()
        self._reopen()
        # Delete after the rename: a crash in between leaves an extra file until the next rotation, never one too few.
        for path in self._rotated()[: -self._backups or None]:
            path.unlink(missing_ok=True)

    def _set_aside(self) -> Path:
        """Rename the file to a name with the time, and return the new path."""
        moment = datetime.now(UTC)
        if rotated := self._rotated():
            # Names must sort like the lines, even if the clock was set back.
            moment = max(moment, _moment(rotated[-1]) + timedelta(microseconds=1))
        target = self._path.with_name(f"{self._path.name}.{moment:{_NAME}}")
        os.rename(self._path, target)  # noqa: PTH104 (tests watch every system call)
        sync_directory(self._path.parent)
        return target

    def _rotated(self) -> list[Path]:
        """Return the rotated files, oldest first, without files that other programs renamed."""
        pattern = re.compile(re.escape(self._path.name) + r"\.\d{8}T\d{6}\.\d{6}Z")
        return sorted(path for path in self._path.parent.iterdir() if pattern.fullmatch(path.name))


def _moment(rotated: Path) -> datetime:
    """Return the time in the name of a rotated file, or the earliest time if it is not valid."""
    try:
        return datetime.strptime(rotated.name[-_NAME_LENGTH:], _NAME).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)


def _digest_of(descriptor: int, start: int, end: int) -> str:
    return digest(b"".join(os.pread(descriptor, min(_PIECE, end - at), at) for at in range(start, end, _PIECE)))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
