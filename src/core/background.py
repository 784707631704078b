"""Background tasks of a process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager

import structlog

from ..errors import Unavailable

CANCELLING_AGAIN = 1.0  # seconds for a cancelled task to clean up, for example to abort a transaction

log = structlog.get_logger(__name__)


@asynccontextmanager
async def background_tasks(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run tasks while the block runs; at its end, cancel those that still run and wait for them.

    A cancellation can be lost, so it is repeated until the task ends: `asyncio.wait_for` of Python 3.11 drops a
    cancellation that arrives just as its awaitable finishes (python/cpython#86296), and PyMongo's client uses it.
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
    """Run the work now and then every ``every`` seconds until cancelled. Errors are logged and do not stop it."""
    while True:
        try:
            await work()
        except Unavailable:
            pass  # logged where it happened
        except Exception as error:  # noqa: BLE001 (the next round may succeed, and this error must be in the log)
            log.error("background task failed", work=work.__qualname__, error=type(error).__name__)
        await asyncio.sleep(every)
