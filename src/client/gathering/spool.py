"""Lines that were read and that the server has not confirmed yet, on disk, in batches.

A batch is a file, and its id, under which the server stores it once, is in the file's name. The newest file is written
to: bytes go into it as they were read, so that nothing is in memory alone. It is closed, and synced, before it is first
sent, and never changed after that; when it is confirmed, it is deleted. So a batch that is found at the start is sent
as it is: either for the first time, or with the content that it was sent with before.

What comes after the last line break is the beginning of a line. It goes along into the next file, in its first record;
so only the newest file has such a rest that counts.
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
"""Bytes; a longer line is cut, because no request has room for it."""
LOCK, ASIDE = "lock", ".refused"
_NAME = re.compile(r"(?P<number>[0-9]{10})-(?P<id>[0-9a-f]{32})\.batch")
_CONTINUING = range(0x80, 0xC0)
"""Bytes inside a character of UTF-8."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Spool:
    """The batches of one sender and one server; for one process at a time.

    ``source`` names what is read from; only a beginning of a line that came from there is gone on with. ``limit`` is in
    bytes. Methods raise `OSError` where the disk refuses, and can be called again then.
    """

    def __init__(self, directory: Path, *, source: str, limit: int) -> None:
        self.directory, self._source, self._limit = directory, source, limit
        self._waiting: list[BatchFile] = []
        self._current: BatchFile | None = None
        self._taken = bytearray()
        self._next_number = 1
        self._is_synced = True
        self._lock = -1
        self._used = 0
        self.torn = 0
        """Bytes at its end that were not whole when it was opened."""
        self.cut = 0
        """Lines that were longer than `LONGEST_LINE`, once for each cut."""
        self.damaged: list[Path] = []
        """Files that were set aside when it was opened."""

    def open(self) -> None:
        """Take the spool, and find what is in it. Raises `ClientError` where it cannot be used, or is in use."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.directory.stat()
            if found.st_uid != os.geteuid() or found.st_mode & _OTHERS:
                raise ClientError(f"{self.directory} can be used by others: chmod 700 {self.directory}")
            self._lock = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._recover()
        except BlockingIOError:
            raise ClientError(
                f"another `gather --follow` of this user sends to this server from {self.directory}. Let it end, or"
                " give this one a spool of its own with --spool"
            ) from None
        except OSError as error:
            raise ClientError(f"{self.directory} cannot be used: {error.strerror}") from None

    def close(self) -> None:
        """Leave it to others; what is in it stays."""
        for handle in (self._lock, self._current.handle if self._current else -1):
            if handle >= 0:
                os.close(handle)
        self._lock, self._current = -1, None

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be taken for now."""
        return self._used >= self._limit

    @property
    def lines(self) -> int:
        """How many lines wait."""
        return sum(batch.lines for batch in self._waiting) + (self._current.lines if self._current else 0)

    @property
    def next(self) -> BatchFile | None:
        """The oldest batch that is closed."""
        return self._waiting[0] if self._waiting else None

    @property
    def has_open_lines(self) -> bool:
        """Whether the batch that is written to has whole lines."""
        return self._current is not None and self._current.lines > 0

    @property
    def needs_sync(self) -> bool:
        """Whether something would be lost with the machine's power."""
        return not self._is_synced

    def take(self, data: bytes) -> None:
        """Take what was read; `write` puts it on disk."""
        self._taken += data

    def write(self) -> None:
        """Put on disk what was taken."""
        while self._taken or (self._current and self._current.is_full):
            if self._current is None:
                self._current = self._begin()
            elif self._current.is_full:
                self.close_batch()
            else:
                length, cut = self._next_piece(self._current)
                self._append(self._current, bytes(self._taken[:length]) + b"\n" * cut)
                self.cut += cut
                del self._taken[:length]

    def end_line(self) -> bool:
        """Let the beginning of a line be all of it, because nothing follows; tell whether there is one."""
        has_rest = self._current is not None and self._current.rest != b""
        if has_rest:
            self.take(b"\n")
        return has_rest

    def sync(self) -> None:
        """Have the disk keep what is written."""
        if self._current is not None:
            os.fsync(self._current.handle)
        self._sync_directory()
        self._is_synced = True

    def close_batch(self) -> None:
        """Let the batch that is written to be sent."""
        closed = self._current
        if closed is None or not closed.lines:
            return
        os.fsync(closed.handle)
        self._current = self._begin(closed.rest) if closed.rest else None
        os.close(closed.handle)
        self._waiting.append(closed)
        # The closed one may be gone soon, and the beginning of a line is in the new one then.
        self.sync()

    def read(self, batch: BatchFile) -> bytes:
        """Return the lines of a closed batch. Raises `ClientError` where they are not as they were written."""
        try:
            payloads, _ = decode_records(batch.path.name, batch.path.read_bytes())
            content = read_content(payloads)
        except (OSError, ValueError):
            content = b""
        whole = content[: content.rfind(b"\n") + 1]
        if whole.count(b"\n") != batch.lines:
            raise ClientError(f"{batch.path} was changed or cannot be read any more")
        return whole

    def forget(self, batch: BatchFile) -> None:
        """Delete a batch that the server has confirmed."""
        self._waiting.remove(batch)
        self._delete(batch)

    def set_aside(self, batch: BatchFile) -> Path:
        """Keep a batch that can never be sent out of the way, and return where it is."""
        self._waiting.remove(batch)
        return self._set_aside(batch.path)

    def _set_aside(self, path: Path) -> Path:
        return path.rename(path.with_suffix(ASIDE))

    def _delete(self, batch: BatchFile) -> None:
        batch.path.unlink()
        self._used -= batch.size

    def _next_piece(self, current: BatchFile) -> tuple[int, bool]:
        """Return how many of the bytes that were taken go into a batch next, and whether their line is cut there."""
        first = self._taken.find(b"\n")
        end = len(self._taken) if first < 0 else first
        if len(current.rest) + end > LONGEST_LINE:
            return self._character_end(LONGEST_LINE - len(current.rest)), True
        # A long line is to have a batch of its own.
        room = 1 if len(current.rest) > ENOUGH else MOST_LINES - current.lines
        if self._taken.count(b"\n") <= room:
            return len(self._taken), False
        end = -1
        for _ in range(room):
            end = self._taken.find(b"\n", end + 1)
        return end + 1, False

    def _character_end(self, length: int) -> int:
        """Return a length that is at most three bytes shorter, and cuts no character of UTF-8."""
        for shorter in range(length, max(length - 4, 0), -1):
            if self._taken[shorter] not in _CONTINUING:
                return shorter
        return length

    def _begin(self, rest: bytes = b"") -> BatchFile:
        """Begin a file, with the beginning of a line from the one before."""
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
                    # The machine has stopped before anything in it was synced.
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
            self._go_on(*last)
        for batch in [one for one in self._waiting if not one.lines]:
            self.forget(batch)

    def _go_on(self, last: BatchFile, source: str) -> None:
        """Go on with the line whose beginning is in the last file, or let it be all of the line."""
        self._current = self._begin(last.rest)
        if not source or source != self._source:
            self.end_line()
            self.write()
        self.sync()
