"""Keeps the dump up to date: one process of each host reads new bundles from the database and appends their lines."""

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import structlog

from ...core.clock import EPOCH, MILLISECOND, milliseconds, utc_now
from ...core.metrics import Metrics
from ...errors import Unavailable
from ..bundle_reader import BundleReader, Span
from ..export import Export
from ..sender_counters import SenderCounters
from .file import DumpFile
from .journal import Checkpoint
from .lock import DumpFailure, DumpLock

POLL_SECONDS = 0.2
"""How often the writer polls for messages stored by other processes."""
LOCK_POLL_SECONDS = 0.3
READY_POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0
MOST_BYTES = 1024 * 1024
"""Maximum bytes of a write, unless a single bundle has more."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = structlog.get_logger(__name__)


class DumpWriter:
    """Writes the dump at a path while this process holds the lock."""

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        backups: int,
        reader: BundleReader,
        export: Export,
        counters: SenderCounters,
        is_ready: Callable[[], bool],
        metrics: Metrics,
    ) -> None:
        self._file = DumpFile(path, max_bytes=max_bytes, backups=backups)
        self._most_bytes = min(MOST_BYTES, max_bytes)
        self._lock = DumpLock(path.with_name(f"{path.name}.lock"))
        self._reader = reader
        self._export = export
        self._counters = counters
        self._is_ready = is_ready
        self._is_stuck = metrics.dump_is_stuck
        # One thread, so that steps never overlap, even if the caller stops waiting for one.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="dump")
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._failure: DumpFailure | None = None

    def start(self) -> None:
        """Start in the background."""
        self._running = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Read new messages now instead of at the next poll."""
        self._woken.set()

    async def close(self) -> None:
        """Write all stored messages and stop."""
        self._stopping.set()
        self._woken.set()
        if self._running is not None:
            await self._running
        self._thread.shutdown()

    def failure(self) -> DumpFailure | None:
        """Return the failure of this process or of the process that holds the lock."""
        return self._failure or self._lock.published()

    async def _run(self) -> None:
        is_done = False
        while not is_done:
            # Try once more before stopping: no other process may be left to write these messages.
            is_done = self._stopping.is_set()
            pause = RETRY_SECONDS
            try:
                if not self._is_ready():
                    pause = READY_POLL_SECONDS
                elif await self._on_thread(self._lock.take):
                    is_done = await self._write() or is_done
                else:
                    self._end_failure()
                    pause = LOCK_POLL_SECONDS
            except Unavailable:
                pass  # logged where it happened
            except OSError as error:
                self._begin_failure(error)
            except Exception as error:  # noqa: BLE001 (logged, and tried again)
                log.error("background task failed", work="Dump", error=type(error).__name__)
            # `wake` does not end this pause: it is for the process that writes.
            await _wait_for(self._stopping, pause)
        await self._on_thread(self._file.close)
        await self._on_thread(self._lock.release)

    async def _write(self) -> bool:
        """Append new messages until this process stops (returns True) or loses the lock (returns False)."""
        known = await self._counters.read()
        mark = await self._on_thread(self._file.open, known.epoch)
        position = await self._start(mark, known.position)
        while await self._on_thread(self._lock.take):
            is_last_look = self._stopping.is_set()
            self._woken.clear()
            lines, reached = await self._read(position)
            if reached:
                await self._on_thread(self._file.append, lines, reached)
                position = reached.position
                self._end_failure()
                continue
            self._end_failure()
            if not self._file.is_settled:
                await self._on_thread(self._file.settle)
            if is_last_look:
                return True
            await _wait_for(self._woken, POLL_SECONDS)
        return False

    async def _start(self, mark: Checkpoint, counted: int) -> int:
        """Return the position to continue from: the checkpoint's, unless the database was restored from a backup.

        After a restore, positions are assigned again. Bundles that are newer than the checkpoint by their time are then
        at or before its position.
        """
        last = max(counted, await self._reader.last())
        first = await self._reader.first_after(EPOCH + mark.arrived_at * MILLISECOND)
        position = min(mark.position, last if first is None else first - 1)
        if position < mark.position:
            log.warning("database is older than the dump: new messages are appended")
        return position

    async def _read(self, after: int) -> tuple[bytes, Checkpoint | None]:
        """Return the next lines and the checkpoint after them; None if there are no new bundles."""
        lines, reached = bytearray(), None
        for place, some in await self._export.page(Span(), after):
            lines += some
            reached = Checkpoint(position=place.position, arrived_at=milliseconds(place.received_at))
            if len(lines) >= self._most_bytes:
                break
        return bytes(lines), reached

    async def _on_thread(self, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)

    def _begin_failure(self, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        if self._failure is None or self._failure.reason != reason:
            log.error(
                "dump of gathered messages cannot be written: it will catch up",
                reason=reason,
                error=errno.errorcode.get(error.errno or 0),
            )
            since = self._failure.since if self._failure else utc_now()
            self._failure = DumpFailure(since=since, reason=reason)
        self._is_stuck.set(1)
        self._lock.publish(self._failure)

    def _end_failure(self) -> None:
        if self._failure is not None:
            log.info("dump of gathered messages is being written again")
            self._failure = None
            self._is_stuck.set(0)
            self._lock.publish(None)


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
