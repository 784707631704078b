"""Slow derivations off the event loop: a bounded pool with a bounded queue."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from ..errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

NICENESS = 10


class HashingPool:
    """Threads for work that takes tens of milliseconds without the interpreter lock, such as Argon2id."""

    def __init__(self, *, threads: int, queue: int) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="hashing", initializer=_yield_to_event_loops)
        self._capacity = threads + queue
        self._pending = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the function returns on one of the threads.

        Raises `Unavailable` at once when the queue is full.
        """
        with self._lock:
            if self._pending >= self._capacity:
                raise Unavailable("Too many phrases are being checked. Try again after the seconds in Retry-After.")
            self._pending += 1
        work = self._executor.submit(function, *args, **kwargs)
        work.add_done_callback(self._done)
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """Let running work end and drop what waits."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    def _done(self, _: Future[T]) -> None:
        with self._lock:
            self._pending -= 1


def _yield_to_event_loops() -> None:
    # On Linux the priority is each thread's own: hashing takes what the event loops leave, so that no other request
    # waits behind a phrase.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
