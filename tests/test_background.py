"""Work in the background survives its own failures."""

import asyncio

from src.core.background import repeat
from src.errors import Unavailable


async def test_work_that_fails_is_done_again() -> None:
    """Whatever it fails with, the next round comes."""
    failures: list[Exception] = [Unavailable(), ValueError("a bug")]
    done = asyncio.Event()

    async def work() -> None:
        if failures:
            raise failures.pop()
        done.set()

    task = asyncio.create_task(repeat(work, every=0.001))
    async with asyncio.timeout(5):
        await done.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
