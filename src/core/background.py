"""Background tasks of a process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import structlog

from ..errors import Unavailable

Result = TypeVar("Result")

CANCELLING_AGAIN = 1.0  # seconds for a cancelled task to clean up, for example to abort a transaction

log = structlog.get_logger(__name__)


@asynccontextmanager
async def background_tasks(*work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Run tasks while the block runs; at its end, cancel those that still run and wait for them."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        await _cancel(tasks)


async def run_cancellable(work: Coroutine[object, object, Result]) -> Result:
    """Return the result of the work. If the caller is cancelled, so is the work, even if a cancellation is lost."""
    task = asyncio.create_task(work)
    try:
        await asyncio.wait([task])
    finally:
        await _cancel([task])
        if not task.cancelled():
            # Retrieved also if the caller is cancelled, so that asyncio does not report it.
            task.exception()
    return task.result()


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended.

    A cancellation can be lost: `asyncio.wait_for` of Python 3.11 drops one that arrives just as its awaitable finishes
    (python/cpython#86296), and PyMongo's client uses it.
    """
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
