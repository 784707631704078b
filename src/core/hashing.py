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
from typing import ParamSpec, TypeVar

from ..errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 10
MEMORY = 0.8
"""Weight of the past in the running mean of how long each kind of work takes."""
MOST_GROWTH = 3
"""How many times the mean a single time may count for."""


class HashingPool:
    """Threads for work that takes a good while without the interpreter lock, such as Argon2id and bcrypt.

    The queue is bounded twice: by ``queue`` entries, and by ``longest_wait`` seconds. As far as the time that each kind
    of work took before lets it be foreseen, nobody is let in to a longer wait; whoever meets one nonetheless is sent
    away at its end. Twenty milliseconds of Argon2id and a quarter of a second of bcrypt are thus held to one promise.
    """

    def __init__(self, *, threads: int, queue: int, longest_wait: float) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="hashing", initializer=_yield_to_event_loops)
        self._threads = threads
        self._capacity = threads + queue
        self._longest_wait = longest_wait
        self._pending: Counter[object] = Counter()
        self._seconds: dict[object, float] = {}
        self._lock = threading.Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns on one of the threads.

        Raises `Unavailable` at once when the queue is full or too slow, and later when it has become so meanwhile.
        """
        kind: object = getattr(function, "__qualname__", function)
        with self._lock:
            pending = self._pending.total()
            if pending >= self._capacity or (pending >= self._threads and self._wait() > self._longest_wait):
                raise self._too_many()
            self._pending[kind] += 1
        work = self._executor.submit(self._timed, kind, partial(function, *args, **kwargs))
        work.add_done_callback(partial(self._done, kind))
        result = asyncio.wrap_future(work)
        try:
            await asyncio.wait((result,), timeout=self._longest_wait)
            if not result.done() and work.cancel():  # which what has begun does not let happen
                with self._lock:
                    raise self._too_many()
            return await result
        finally:
            result.cancel()

    def close(self) -> None:
        """Let running work end and drop what waits."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _wait(self) -> float:
        return sum(count * self._seconds.get(kind, 0.0) for kind, count in self._pending.items()) / self._threads

    def _too_many(self) -> Unavailable:
        return Unavailable(
            "Too many passwords and phrases are being checked. Try again after the seconds in Retry-After.",
            retry_after=max(1, ceil(self._wait())),
        )

    def _timed(self, kind: object, work: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return work()
        finally:
            seconds = time.perf_counter() - started
            with self._lock:
                mean = self._seconds.get(kind, seconds)
                # A machine that stood still for a moment must not turn away everybody in the next one.
                self._seconds[kind] = mean * MEMORY + min(seconds, mean * MOST_GROWTH) * (1 - MEMORY)

    def _done(self, kind: object, _: Future[T]) -> None:
        with self._lock:
            self._pending[kind] -= 1
            if not self._pending[kind]:
                del self._pending[kind]


def _yield_to_event_loops() -> None:
    # On Linux the priority is each thread's own: hashing takes what the event loops leave, so that no other request
    # waits behind a phrase.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
