"""Slow derivations off the event loop: a bounded pool with a bounded queue."""

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
"""Weight of the past in the running mean of how long each kind of work takes."""
MOST_GROWTH = 3
"""How many times the mean a single time may count for."""
REFUSAL = "Too many passwords and phrases are being checked. Try again after the seconds in Retry-After."
"""What whoever is refused is told: the bench knows a refusal by it."""


class HashingPool:
    """Threads for work that takes a good while without the interpreter lock, such as Argon2id and bcrypt.

    The queue is bounded twice: by ``queue`` entries, and by ``longest_wait`` seconds. As far as the time that each kind
    of work took before lets it be foreseen, nobody is let in to a longer wait; whoever meets one nonetheless is sent
    away at its end. Twenty milliseconds of Argon2id and a quarter of a second of bcrypt are thus held to one promise.
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
        """Return what the function returns on one of the threads; ``kind`` is what it is for.

        Raises `Unavailable` at once when the queue is full or too slow, and later when it has become so meanwhile.
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
            if not result.done() and work.cancel():  # which what has begun does not let happen
                with self._lock:
                    raise self._refusal()
            return await result
        finally:
            result.cancel()

    def close(self) -> None:
        """Let running work end and drop what waits."""
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
                # A machine that stood still for a moment must not turn away everybody in the next one.
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
