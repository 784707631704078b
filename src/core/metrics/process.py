"""Metrics of a process: its resource usage, and the lag of its event loop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import ProcessCollector

from ..background import background_tasks, repeat
from .catalogue import Metrics

INTERVAL = 5.0
"""Seconds between two updates."""
TICK = 0.1
"""Seconds between two measurements of the event loop lag."""


class ProcessFigures:
    """Records the resource usage of a process, as far as the system reports it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._system = ProcessCollector(registry=None)
        self._started_at = time.time()
        self._cpu_seconds = 0.0
        self._lag = 0.0

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Keep the metrics up to date, if they are on."""
        work = (repeat(self._note, every=INTERVAL), self._measure_lag()) if self._metrics.are_on else ()
        async with background_tasks(*work):
            yield

    async def _note(self) -> None:
        metrics = self._metrics
        known = {one.name: one.samples[0].value for one in self._system.collect()}
        if memory := known.get("process_resident_memory_bytes"):
            metrics.resident_memory.set(memory)
        if descriptors := known.get("process_open_fds"):
            metrics.open_fds.set(descriptors)
        metrics.start_time.set(known.get("process_start_time_seconds", self._started_at))
        spent = time.process_time()
        metrics.cpu.inc(spent - self._cpu_seconds)
        self._cpu_seconds = spent
        metrics.event_loop_lag.set(self._lag)
        self._lag = 0.0
        metrics.seen_time.set(time.time())

    async def _measure_lag(self) -> None:
        while True:
            due = time.monotonic() + TICK
            await asyncio.sleep(TICK)
            self._lag = max(self._lag, time.monotonic() - due)
