"""Following stdin: lines go to the spool as they arrive, and from there to the server until it confirms them.

Reading and sending run concurrently. Reading pauses while the spool is full. Batches are sent one at a time, so lines
arrive in order.
"""

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

from ..encodings import Utf8Stream
from ..errors import ClientError
from .batch_file import BatchFile
from .batches import count_lines, parts_of
from .delivery import RetryingSender
from .spool import Spool

READ = 64 * 1024
"""Bytes per read; the capacity of a pipe."""
LINGER = 0.2
"""Seconds for which a batch stays open for more lines."""
SYNC_SECONDS = 1.0
"""Longest time before lines in an open batch are synced."""
DISK_SECONDS = 1.0
"""Seconds between attempts to write to a full disk."""
PROGRESS_SECONDS = 5.0
GRACE = 5.0
"""Seconds to deliver the remaining lines after a signal."""
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Summary:
    """Counts of a follower.

    ``read`` counts lines, ``delivered`` confirmed messages, ``batches`` their requests, ``resent`` repeated requests,
    ``cut`` the cuts in lines that were too long, each of which adds a message, ``refused`` lines that the server
    rejected for good, and ``waiting`` lines left in the spool.
    """

    read: int = 0
    delivered: int = 0
    batches: int = 0
    resent: int = 0
    cut: int = 0
    refused: int = 0
    waiting: int = 0

    def as_record(self) -> dict[str, int]:
        """Return the counts for JSON."""
        return asdict(self)


class StandardInput:
    """Stdin for an event loop: a pipe, a terminal or a file. It reads only on request, and never ahead."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = Utf8Stream()
        self.has_ended = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until input or its end can be read; return False after ``seconds`` without either."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            # A regular file, which is always readable.
            await asyncio.sleep(0)
            return True
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._descriptor)
        return True

    def read(self) -> bytes:
        """Return the next bytes as UTF-8. Empty at the end, which sets ``has_ended``, or for a partial character."""
        data = os.read(self._descriptor, READ)
        self.has_ended = not data
        return self._text.feed(data, final=not data)

    def flush(self) -> bytes:
        """Return the bytes that `read` holds back: an incomplete character or byte order mark."""
        return self._text.feed(b"", final=True)


class Follower:
    """Delivers the lines of an input through an open spool, and counts them in ``summary``.

    ``say`` gets messages for the user.
    """

    def __init__(
        self,
        lines: StandardInput,
        spool: Spool,
        delivery: RetryingSender,
        summary: Summary,
        *,
        say: Callable[[str], None],
    ) -> None:
        self._input, self._spool, self._delivery, self._say = lines, spool, delivery, say
        self.summary = summary
        self._reading: asyncio.Task[None] | None = None
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._deadline = asyncio.Timeout(None)
        self._first_line = self._synced = time.monotonic()
        self._told: set[str] = set()

    async def run(self) -> None:
        """Deliver lines until the input ends and the spool is empty, or until a signal.

        Undelivered lines stay in the spool. Raises `ClientError` for permanent errors.
        """
        self._begin_reading()
        progress = asyncio.create_task(self._tell_progress())
        try:
            with suppress(TimeoutError):
                async with self._deadline:
                    with _handling(self._end):
                        await self._delivery.begin()
                        await self._send_all()
        finally:
            await _cancelled(progress, self._reading)
            self.summary.resent = self._delivery.resent
            self.summary.cut += self._spool.cut
            self.summary.waiting = self._spool.lines

    def _begin_reading(self, *, only_available: bool = False) -> None:
        self._reading = asyncio.create_task(self._read(only_available=only_available))
        self._reading.add_done_callback(lambda _: self._arrived.set())

    def _end(self) -> None:
        """Read what is available and try to deliver it within the grace period; the second time, end at once."""
        is_ending, now = self._deadline.when() is not None, asyncio.get_running_loop().time()
        self._deadline.reschedule(now if is_ending or self._delivery.is_waiting else now + GRACE)
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            self._begin_reading(only_available=True)

    async def _read(self, *, only_available: bool) -> None:
        """Read until the input ends; with ``only_available``, until a read would block."""
        await self._on_disk(self._spool.write)
        while True:
            while self._spool.is_full:
                self._tell_once(
                    "the spool is full: reading pauses until the server accepts lines again, which blocks the program"
                    " that writes them"
                )
                self._room.clear()
                await self._room.wait()
            limit = SYNC_SECONDS if self._spool.needs_sync else None
            if not await self._input.wait(0 if only_available else limit):
                if only_available:
                    await self._take(self._input.flush())
                    return
                await self._sync()
                continue
            await self._take(self._input.read())
            if self._input.has_ended:
                await self._end_input()
                return
            if time.monotonic() - self._synced >= SYNC_SECONDS:
                await self._sync()

    async def _take(self, data: bytes) -> None:
        """Write input to the spool at once: a killed process loses what is only in memory."""
        self.summary.read += data.count(b"\n")
        self._spool.take(data)
        await self._write()

    async def _end_input(self) -> None:
        """Complete the last line if it has no line break."""
        self.summary.read += self._spool.end_line()
        await self._write()

    async def _write(self) -> None:
        had_lines = self._spool.has_open_lines
        await self._on_disk(self._spool.write)
        if not had_lines:
            self._first_line = time.monotonic()
        if self._spool.cut:
            self._tell_cut()
        self._arrived.set()

    async def _sync(self) -> None:
        await self._on_disk(self._spool.sync)
        self._synced = time.monotonic()

    async def _send_all(self) -> None:
        while (batch := await self._next_batch()) is not None:
            await self._send(batch)
            self._room.set()

    async def _send(self, batch: BatchFile) -> None:
        parts = parts_of(batch.id, self._spool.read(batch))
        cuts = sum(len(part.messages) for part in parts) - batch.lines
        if cuts:
            self.summary.cut += cuts
            self._tell_cut()
        for part in parts:
            answer = await self._delivery.deliver(part)
            if not answer.ok:
                path = self._spool.set_aside(batch)
                self.summary.refused += batch.lines
                self._say(
                    f"the server rejected {count_lines(batch.lines)} for good: {answer.error()} They are kept in {path}"
                )
                return
            self.summary.delivered += len(part.messages)
            self.summary.batches += 1
        self._spool.forget(batch)

    async def _next_batch(self) -> BatchFile | None:
        """Wait for a batch; None once the input has ended and every batch is delivered."""
        while True:
            self._arrived.clear()
            has_ended = self._reading is not None and self._reading.done()
            if self._spool.next is not None:
                return self._spool.next
            if self._spool.has_open_lines:
                left = self._first_line + LINGER - time.monotonic()
                if has_ended or left <= 0:
                    await self._on_disk(self._spool.close_batch)
                    continue
                # Not `asyncio.wait_for`: in Python 3.11 it can swallow a cancellation.
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._arrived.wait()
            elif has_ended:
                self._check_reading()
                return None
            else:
                await self._arrived.wait()

    def _check_reading(self) -> None:
        """Raise the error that ended the reading, if any."""
        if self._reading is not None:
            self._reading.result()

    async def _on_disk(self, change: Callable[[], None]) -> None:
        """Change the spool, and retry while the disk is full. Raises `ClientError` for other disk errors."""
        while True:
            try:
                return change()
            except OSError as error:
                if error.errno not in FULL_DISK:
                    raise ClientError(f"cannot write to {self._spool.directory}: {error.strerror}") from None
                self._tell_once(
                    f"the disk of {self._spool.directory} is full: reading pauses until there is space. No input that"
                    " was read is lost"
                )
            await asyncio.sleep(DISK_SECONDS)

    async def _tell_progress(self) -> None:
        """Report the remaining lines regularly after the input has ended."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            if self._reading is not None and self._reading.done() and not self._delivery.is_waiting:
                self._say(f"{count_lines(self._spool.lines)} left to deliver")

    def _tell_cut(self) -> None:
        self._tell_once("a line is too long for one message: it is sent as several")

    def _tell_once(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            self._say(words)


@contextmanager
def _handling(end: Callable[[], None]) -> Iterator[None]:
    """Call ``end`` on Ctrl-C and SIGTERM. Outside the main thread, signals cannot be handled."""
    loop, handled = asyncio.get_running_loop(), []
    with suppress(RuntimeError, ValueError):
        for number in SIGNALS:
            loop.add_signal_handler(number, end)
            handled.append(number)
    try:
        yield
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def _cancelled(*tasks: asyncio.Task[None] | None) -> None:
    """Cancel tasks and wait for them."""
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
