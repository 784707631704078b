"""Lines on disk that the server has not confirmed yet.

Each batch is a file whose name contains its id; the server stores an id once. Input is appended to the newest file as
it is read, so that it is never in memory only. A file is closed and synced before it is first sent, never changes after
that, and is deleted once the server confirms it. A batch found at the start is therefore sent unchanged, whether or not
it was sent before.

An incomplete line at the end of a file is copied into the first record of the next one, so only the one in the newest
file counts.
"""

import fcntl
import os
import re
import stat
from pathlib import Path

from ..errors import ClientError
from .batch_file import ENOUGH, BatchFile, decode_records, read_content, read_source
from .batches import MOST_LINES

LONGEST_LINE = 1_000_000
"""Bytes; a longer line does not fit into a request, and is cut."""
LOCK, ASIDE = "lock", ".refused"
_NAME = re.compile(r"(?P<number>[0-9]{10})-(?P<id>[0-9a-f]{32})\.batch")
_CONTINUING = range(0x80, 0xC0)
"""Continuation bytes of UTF-8."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Spool:
    """The batches of one sender for one server; used by one process at a time.

    ``source`` identifies the input: only an incomplete line from the same source is continued. ``limit`` is in bytes.
    Methods raise `OSError` for disk errors, and can then be called again.
    """

    def __init__(self, directory: Path, *, source: str, limit: int) -> None:
        self.directory, self._source, self._limit = directory, source, limit
        self._waiting: list[BatchFile] = []
        self._current: BatchFile | None = None
        self._buffer = bytearray()
        self._next_number = 1
        self._is_synced = True
        self._lock = -1
        self._used = 0
        self.torn = 0
        """Torn bytes at the end, found by `open`."""
        self.cut = 0
        """Cuts in lines longer than `LONGEST_LINE`."""
        self.damaged: list[Path] = []
        """Damaged files, set aside by `open`."""

    def open(self) -> None:
        """Lock the spool and recover its content. Raises `ClientError` if it is unusable or in use."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.directory.stat()
            if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
                raise ClientError(f"other users can access {self.directory}: chmod 700 {self.directory}")
            self._lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover()
        except BlockingIOError:
            raise ClientError(
                f"another `gather --follow` with this user and server uses {self.directory}. Stop it, or choose another"
                " directory with --spool"
            ) from None
        except OSError as error:
            raise ClientError(f"cannot use {self.directory}: {error.strerror}") from None

    def close(self) -> None:
        """Release the lock; the files stay."""
        for handle in (self._lock, self._current.handle if self._current else -1):
            if handle >= 0:
                os.close(handle)
        self._lock, self._current = -1, None

    @property
    def is_full(self) -> bool:
        """Whether the size limit is reached."""
        return self._used >= self._limit

    @property
    def lines(self) -> int:
        """Number of undelivered lines."""
        return sum(batch.lines for batch in self._waiting) + (self._current.lines if self._current else 0)

    @property
    def next(self) -> BatchFile | None:
        """The oldest closed batch."""
        return self._waiting[0] if self._waiting else None

    @property
    def has_open_lines(self) -> bool:
        """Whether the open batch has complete lines."""
        return self._current is not None and self._current.lines > 0

    @property
    def needs_sync(self) -> bool:
        """Whether a power failure would lose data."""
        return not self._is_synced

    def take(self, data: bytes) -> None:
        """Buffer input; `write` puts it on disk."""
        self._buffer += data

    def write(self) -> None:
        """Write the buffered input to disk."""
        while self._buffer or (self._current and self._current.is_full):
            if self._current is None:
                self._current = self._begin()
            elif self._current.is_full:
                self.close_batch()
            else:
                length, cut = self._next_piece(self._current)
                self._append(self._current, bytes(self._buffer[:length]) + b"\n" * cut)
                self.cut += cut
                del self._buffer[:length]

    def end_line(self) -> bool:
        """Complete an incomplete line; return whether there was one."""
        has_rest = self._current is not None and self._current.rest != b""
        if has_rest:
            self.take(b"\n")
        return has_rest

    def sync(self) -> None:
        """Call fsync on the open batch and the directory."""
        if self._current is not None:
            os.fsync(self._current.handle)
        self._sync_directory()
        self._is_synced = True

    def close_batch(self) -> None:
        """Close the open batch, so that it can be sent."""
        closed = self._current
        if closed is None or not closed.lines:
            return
        os.fsync(closed.handle)
        self._current = self._begin(closed.rest) if closed.rest else None
        os.close(closed.handle)
        self._waiting.append(closed)
        # The closed file may soon be deleted, so the copy of its incomplete line must be on disk.
        self.sync()

    def read(self, batch: BatchFile) -> bytes:
        """Return the lines of a closed batch. Raises `ClientError` if the file has changed."""
        try:
            payloads, _ = decode_records(batch.path.name, batch.path.read_bytes())
            content = read_content(payloads)
        except (OSError, ValueError):
            content = b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole.count(b"\n") != batch.lines:
            raise ClientError(f"{batch.path} has changed or cannot be read")
        return whole

    def forget(self, batch: BatchFile) -> None:
        """Delete a batch that the server has confirmed."""
        self._waiting.remove(batch)
        self._delete(batch)

    def set_aside(self, batch: BatchFile) -> Path:
        """Rename a batch that cannot be sent, and return its path."""
        self._waiting.remove(batch)
        return self._set_aside(batch.path)

    def _set_aside(self, path: Path) -> Path:
        return path.rename(path.with_suffix(ASIDE))

    def _delete(self, batch: BatchFile) -> None:
        batch.path.unlink()
        self._used -= batch.size

    def _next_piece(self, current: BatchFile) -> tuple[int, bool]:
        """Return the number of buffered bytes to append next, and whether to cut the line after them."""
        first = self._buffer.find(b"\n")
        end = len(self._buffer) if first < 0 else first
        if len(current.rest) + end > LONGEST_LINE:
            return self._character_end(LONGEST_LINE - len(current.rest)), True
        # A long line gets a batch of its own.
        room = 1 if len(current.rest) > ENOUGH else MOST_LINES - current.lines
        if self._buffer.count(b"\n") <= room:
            return len(self._buffer), False
        end = -1
        for _ in range(room):
            end = self._buffer.find(b"\n", end + 1)
        return end + 1, False

    def _character_end(self, length: int) -> int:
        """Return the length, at most 3 bytes shorter, so that it does not split a UTF-8 character."""
        for shorter in range(length, max(length - 4, 0), -1):
            if self._buffer[shorter] not in _CONTINUING:
                return shorter
        return length

    def _begin(self, rest: bytes = b"") -> BatchFile:
        """Create the next file."""
        batch = BatchFile.create(self.directory, self._next_number, source=self._source, rest=rest)
        self._next_number += 1
        self._used += batch.size
        self._is_synced = False
        return batch

    def _append(self, batch: BatchFile, data: bytes) -> None:
        before = batch.size
        batch.append(data)
        self._used += batch.size - before
        self._is_synced = False

    def _sync_directory(self) -> None:
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _recover(self) -> None:
        paths = sorted(path for path in self.directory.iterdir() if _NAME.fullmatch(path.name))
        self._used = sum(path.stat().st_size for path in self.directory.glob(f"*{ASIDE}"))
        last: tuple[BatchFile, str] | None = None
        for path in paths:
            self._next_number = int(path.name.partition("-")[0]) + 1
            raw = path.read_bytes()
            payloads, good = decode_records(path.name, raw)
            is_newest = path == paths[-1]
            try:
                source = read_source(payloads)
            except ValueError:
                source = None
            if source is None or (good < len(raw) and not is_newest):
                if is_newest and good == 0:
                    # The machine stopped before the first sync of the file.
                    self.torn += len(raw)
                    path.unlink()
                else:
                    self.damaged.append(self._set_aside(path))
                    self._used += len(raw)
                continue
            if good < len(raw):
                self.torn += len(raw) - good
                os.truncate(path, good)
            batch = BatchFile(path, size=good)
            batch.count(read_content(payloads))
            self._used += good
            last = batch, source
            self._waiting.append(batch)
        if last is not None and last[0].rest:
            self._continue_line(*last)
        for batch in [one for one in self._waiting if not one.lines]:
            self.forget(batch)

    def _continue_line(self, last: BatchFile, source: str) -> None:
        """Copy the last file's incomplete line to a new file; complete it unless the source is the same."""
        self._current = self._begin(last.rest)
        if not source or source != self._source:
            self.end_line()
            self.write()
        self.sync()
