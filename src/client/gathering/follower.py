"""Following an input: lines go into the spool as they come, and from there to the server until it has them.

Reading and sending go on side by side. Nothing is read that has no room in the spool. One batch is under way at a time,
so lines arrive in their order.
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
from .delivery import Delivery
from .spool import Spool

READ = 64 * 1024
"""Bytes at once; a pipe holds no more."""
LINGER = 0.2
"""Seconds for which a line waits for others to go along with."""
SYNC_SECONDS = 1.0
"""Longest time for which something in the spool is not synced, where it is not sent."""
DISK_SECONDS = 1.0
"""Seconds between tries to write to a full disk."""
PROGRESS_SECONDS = 5.0
GRACE = 5.0
"""Seconds to deliver what is left, once it was told to end."""
FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Summary:
    """What a follower has done.

    ``read`` counts lines, ``delivered`` messages that the server has confirmed, ``batches`` the requests with them,
    ``resent`` the requests that were repeated, ``cut`` the cuts in lines that were too long, each of which makes a
    message more, ``refused`` lines that the server will never take, and ``waiting`` those that are left in the spool.
    """

    read: int = 0
    delivered: int = 0
    batches: int = 0
    resent: int = 0
    cut: int = 0
    refused: int = 0
    waiting: int = 0

    def as_record(self) -> dict[str, int]:
        """Return it for programs."""
        return asdict(self)


class StandardInput:
    """Reads from a descriptor, and nothing before it is asked to: what is not read stays where it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = Utf8Stream()
        self.has_ended = False

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until something can be read, or it has ended; False after so many ``seconds`` without that."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            # A file can always be read.
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
        """Return the next bytes as UTF-8: none at the end, which sets ``has_ended``, and none for half a character."""
        data = os.read(self._descriptor, READ)
        self.has_ended = not data
        return self._text.feed(data, final=not data)

    def flush(self) -> bytes:
        """Return what `read` holds back: the bytes that are not a whole character, or byte order mark, yet."""
        return self._text.feed(b"", final=True)


class Follower:
    """Delivers the lines of an input, and counts in a ``summary``; ``say`` is told what a person should know.

    The spool is open.
    """

    def __init__(
        self, lines: StandardInput, spool: Spool, delivery: Delivery, summary: Summary, *, say: Callable[[str], None]
    ) -> None:
        self._input, self._spool, self._delivery, self._say = lines, spool, delivery, say
        self.summary = summary
        self._reading: asyncio.Task[None] | None = None
        self._arrived, self._room = asyncio.Event(), asyncio.Event()
        self._deadline = asyncio.Timeout(None)
        self._first_line = self._synced = time.monotonic()
        self._told: set[str] = set()

    async def run(self) -> None:
        """Deliver until the input has ended and nothing is left, or until it is told to end.

        Raises `ClientError` for what waiting does not mend. What is not delivered stays in the spool.
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

    def _begin_reading(self, *, what_is_there: bool = False) -> None:
        self._reading = asyncio.create_task(self._read(what_is_there=what_is_there))
        self._reading.add_done_callback(lambda _: self._arrived.set())

    def _end(self) -> None:
        """Read what is there, deliver it if the server takes it, and end soon; the second time, end now."""
        is_ending, now = self._deadline.when() is not None, asyncio.get_running_loop().time()
        self._deadline.reschedule(now if is_ending or self._delivery.is_waiting else now + GRACE)
        if self._reading is not None and not self._reading.done():
            self._reading.cancel()
            self._begin_reading(what_is_there=True)

    async def _read(self, *, what_is_there: bool) -> None:
        """Read until the input ends, or only ``what_is_there``."""
        await self._on_disk(self._spool.write)
        while True:
            while self._spool.is_full:
                self._tell_once(
                    "the spool is full: nothing more is read until the server takes lines again, and whoever writes"
                    " them waits"
                )
                self._room.clear()
                await self._room.wait()
            patience = SYNC_SECONDS if self._spool.needs_sync else None
            if not await self._input.wait(0 if what_is_there else patience):
                if what_is_there:
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
        """Put what was read into the spool, before anything else: what is in memory alone is lost with the process."""
        self.summary.read += data.count(b"\n")
        self._spool.take(data)
        await self._write()

    async def _end_input(self) -> None:
        """Let the beginning of a line be all of it."""
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
                self._say(f"{count_lines(batch.lines)} will never be taken: {answer.error()} Kept in {path}")
                return
            self.summary.delivered += len(part.messages)
            self.summary.batches += 1
        self._spool.forget(batch)

    async def _next_batch(self) -> BatchFile | None:
        """Wait for a batch; None when everything is delivered and nothing follows."""
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
                # Not `asyncio.wait_for`: that of Python 3.11 drops a cancellation that comes with an arrival.
                with suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await self._arrived.wait()
            elif has_ended:
                self._check_reading()
                return None
            else:
                await self._arrived.wait()

    def _check_reading(self) -> None:
        """Raise what has ended the reading, if it was not the end of the input."""
        if self._reading is not None:
            self._reading.result()

    async def _on_disk(self, change: Callable[[], None]) -> None:
        """Change the spool, and wait where the disk is full. Raises `ClientError` for a disk that fails."""
        while True:
            try:
                return change()
            except OSError as error:
                if error.errno not in FULL_DISK:
                    raise ClientError(f"{self._spool.directory} cannot be written: {error.strerror}") from None
                self._tell_once(
                    f"the disk of {self._spool.directory} is full: nothing more is read until it has room. What was"
                    " read is kept"
                )
            await asyncio.sleep(DISK_SECONDS)

    async def _tell_progress(self) -> None:
        """Tell how much is left, once nothing more comes."""
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            if self._reading is not None and self._reading.done() and not self._delivery.is_waiting:
                self._say(f"{count_lines(self._spool.lines)} still to be delivered")

    def _tell_cut(self) -> None:
        self._tell_once("a line is longer than the server takes: it is sent in pieces, as several messages")

    def _tell_once(self, words: str) -> None:
        if words not in self._told:
            self._told.add(words)
            self._say(words)


@contextmanager
def _handling(end: Callable[[], None]) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM call a function; elsewhere than in the main thread, nobody gets them."""
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
    """Cancel tasks and wait until they have ended."""
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
