"""Background tasks survive their own failures, and end when cancelled."""

import asyncio
from contextlib import suppress

import pytest

from src.core.background import background_tasks, repeat, run_cancellable
from src.errors import Unavailable

from .processes import PATIENCE


async def test_failed_work_is_repeated() -> None:
    """After any exception, the next round runs."""
    failures: list[Exception] = [Unavailable(), ValueError("a bug")]
    done = asyncio.Event()

    async def work() -> None:
        if failures:
            raise failures.pop()
        done.set()

    task = asyncio.create_task(repeat(work, every=0.001))
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()


async def test_work_ends_with_the_block() -> None:
    """All tasks end, finished or endless."""
    ended: list[str] = []

    async def wait_for_ever(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    async def finish() -> None:
        ended.append("by itself")

    async with background_tasks(wait_for_ever("one"), wait_for_ever("two"), finish()):
        await asyncio.sleep(0)

    assert ["by itself", "one", "two"] == sorted(ended)


async def test_a_lost_cancellation_is_repeated() -> None:
    """`asyncio.wait_for` drops a cancellation that arrives when its result does, and its caller continues."""
    answer = asyncio.get_running_loop().create_future()
    story: list[str] = []

    async def work() -> None:
        with suppress(asyncio.CancelledError):  # in Python 3.12 it is not lost
            await asyncio.wait_for(answer, PATIENCE)
        story.append("goes on")
        try:
            await asyncio.Event().wait()
        finally:
            story.append("has ended")

    async with asyncio.timeout(PATIENCE):
        async with background_tasks(work()):
            await asyncio.sleep(0)
            answer.set_result(None)

    assert ["goes on", "has ended"] == story


async def test_work_that_loses_a_cancellation_ends_with_its_caller() -> None:
    """An interrupted command does not go on until its next timeout."""
    answer = asyncio.get_running_loop().create_future()

    async def work() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(answer, PATIENCE)
        await asyncio.Event().wait()

    caller = asyncio.create_task(run_cancellable(work()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answer.set_result(None)
    caller.cancel()
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([caller])

    assert caller.cancelled()


async def test_work_that_fails_or_succeeds_is_passed_on() -> None:
    """The result, or the exception."""

    async def work(*, fails: bool) -> int:
        if fails:
            raise Unavailable
        return 5

    assert 5 == await run_cancellable(work(fails=False))
    with pytest.raises(Unavailable):
        await run_cancellable(work(fails=True))
