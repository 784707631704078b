"""Running many jobs concurrently, until the run has to stop."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

from .calls import Failed

GRACE = 5.0
"""Seconds for running jobs to finish."""

Job = Callable[[], Awaitable[None]]


async def run_jobs(jobs: Iterable[Job], *, at_once: int, stopping: Callable[[], None]) -> None:
    """Run jobs in order, ``at_once`` at a time. A `Failed` job does not stop the others.

    After any other exception or a cancellation, no job is started, and running ones get a grace period. ``stopping`` is
    called on cancellation.
    """
    left = iter(jobs)
    stopped = asyncio.Event()

    async def work() -> None:
        for job in left:
            if stopped.is_set():
                return
            with suppress(Failed):
                await job()

    workers = [asyncio.create_task(work()) for _ in range(at_once)]
    # No `finally`: the second Ctrl-C must not wait.
    try:
        await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        stopped.set()
        stopping()
        await _end(workers)
        raise
    stopped.set()
    for outcome in await _end(workers):
        if isinstance(outcome, Exception):
            raise outcome


async def _end(workers: Collection[asyncio.Task[None]]) -> list[BaseException | None]:
    """Wait for the workers, and return their exceptions."""
    _, late = await asyncio.wait(workers, timeout=GRACE)
    for worker in late:
        worker.cancel()
    return await asyncio.gather(*workers, return_exceptions=True)
