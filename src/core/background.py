"""Work that goes on in the background as long as the process lives."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager

import structlog

from ..errors import Unavailable

CANCELLING_AGAIN = 1.0  # seconds, in which a task can do what it does at its end, such as aborting a transaction

log = structlog.get_logger(__name__)


@asynccontextmanager
async def background_tasks(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Do the work beside the block, and cancel what of it goes on at the block's end; it has ended afterwards.

    A cancellation can be lost, so it comes again until it is heard: `asyncio.wait_for` of Python 3.11 drops one that
    comes when what it waits for is just done (python/cpython#86296), and PyMongo's own client sends through it.
    """
    tasks: Collection[asyncio.Task[None]] = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        while tasks:
            for task in tasks:
                task.cancel()
            _, tasks = await asyncio.wait(tasks, timeout=CANCELLING_AGAIN)


async def repeat(work: Callable[[], Awaitable[None]], *, every: float) -> None:
    """Do the work now and again ``every`` so many seconds, whatever it fails with, until cancelled."""
    while True:
        try:
            await work()
        except Unavailable:
            pass  # logged where it happened; the next round comes
        except Exception as error:  # noqa: BLE001 (the next round may do better, and somebody must read of this one)
            log.error("background work failed", work=work.__qualname__, error=type(error).__name__)
        await asyncio.sleep(every)
