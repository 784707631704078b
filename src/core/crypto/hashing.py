"""Password hashing off the event loop: a thread pool with a bounded queue."""

import asyncio
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from math import ceil
from typing import ParamSpec, TypeVar, get_args

from ...errors import Unavailable
from ..metrics import Metrics, Work

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 10
MEMORY = 0.8
"""Weight of the previous mean in the moving average of the duration of each kind of work."""
MOST_GROWTH = 3
"""A single duration counts for at most this many times the mean."""
REFUSAL = "Too many passwords and phrases are being checked. Try again after the delay in Retry-After."
"""The detail of a refusal. The bench recognizes refusals by it."""


class HashingPool:
    """Threads for slow work that releases the interpreter lock, such as Argon2id and bcrypt.

    The queue is bounded by ``queue`` entries and by ``longest_wait`` seconds. A request whose wait, estimated from the
    mean duration of the queued work, would be longer is refused at once; a request that still waits longer is refused
    then. So the same limit holds for 20 ms of Argon2id and 250 ms of bcrypt.
    """

    def __init__(self, *, threads: int, queue: int, longest_wait: float, metrics: Metrics | None = None) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="hashing", initializer=_yield_to_event_loops)
        self._threads = threads
        self._capacity = threads + queue
        self._longest_wait = longest_wait
        self._pending: Counter[Work] = Counter()
        self._seconds: dict[Work, float] = {}
        self._lock = threading.Lock()
        metrics = metrics or Metrics.off()
        self._durations = {kind: metrics.hashing_duration.child(kind) for kind in get_args(Work)}
        self._waits = {kind: metrics.hashing_wait.child(kind) for kind in get_args(Work)}
        self._pending_gauge, self._refusals = metrics.hashing_pending, metrics.hashing_refusals

    async def run(self, kind: Work, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function on one of the threads and return its result; ``kind`` is the kind of work.

        Raises `Unavailable` at once if the queue is full or too slow, and later if the wait exceeds the limit.
        """
        with self._lock:
            pending = self._pending.total()
            if pending >= self._capacity or (pending >= self._threads and self._wait() > self._longest_wait):
                raise self._refusal()
            self._pending[kind] += 1
            self._pending_gauge.set(pending + 1)
        work = self._executor.submit(self._timed, kind, time.perf_counter(), partial(function, *args, **kwargs))
        work.add_done_callback(partial(self._done, kind))
        result = asyncio.wrap_future(work)
        try:
            await asyncio.wait((result,), timeout=self._longest_wait)
            if not result.done() and work.cancel():  # fails once started
                with self._lock:
                    raise self._refusal()
            return await result
        finally:
            result.cancel()

    def close(self) -> None:
        """Let running work finish and cancel queued work."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _wait(self) -> float:
        return sum(count * self._seconds.get(kind, 0.0) for kind, count in self._pending.items()) / self._threads

    def _refusal(self) -> Unavailable:
        self._refusals.inc()
        return Unavailable(REFUSAL, retry_after=max(1, ceil(self._wait())))

    def _timed(self, kind: Work, submitted: float, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        self._waits[kind].observe(started - submitted)
        try:
            return work()
        finally:
            seconds = time.perf_counter() - started
            self._durations[kind].observe(seconds)
            with self._lock:
                mean = self._seconds.get(kind, seconds)
                # One pause of the whole machine must not make the pool refuse requests afterwards.
                self._seconds[kind] = mean * MEMORY + min(seconds, mean * MOST_GROWTH) * (1 - MEMORY)

    def _done(self, kind: Work, _: Future[T]) -> None:
        with self._lock:
            self._pending[kind] -= 1
            self._pending_gauge.set(self._pending.total())


def _yield_to_event_loops() -> None:
    # On Linux the priority is each thread's own: hashing takes what the event loops leave, so that no other request
    # waits behind a phrase.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
