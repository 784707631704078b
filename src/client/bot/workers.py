"""Many jobs at once, and no more of them once the run has to end."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress

from .calls import Failed

GRACE = 5.0
"""Seconds that what is under way gets to end by itself."""

Job = Callable[[], Awaitable[None]]


async def run_jobs(jobs: Iterable[Job], *, at_once: int, stopping: Callable[[], None]) -> None:
    """Carry out jobs in their order, so many at once; one whose request fails ends, and the others go on.

    Where one raises something else, or this is cancelled, those under way may end, and no other is begun; ``stopping``
    is called when it is cancelled.
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
    # Without `finally`: what is raised at the second Ctrl-C must not wait for anything.
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
    """Return what the workers have raised, when all have ended."""
    _, late = await asyncio.wait(workers, timeout=GRACE)
    for worker in late:
        worker.cancel()
    return await asyncio.gather(*workers, return_exceptions=True)
