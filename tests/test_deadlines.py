"""Time limits of requests."""

import asyncio

import pytest

from src.api.deadlines import Deadlines


async def test_a_block_ends_at_its_deadline() -> None:
    """It raises `TimeoutError`, and its task goes on."""
    with pytest.raises(TimeoutError), Deadlines(0.05).start():
        await asyncio.Event().wait()

    await asyncio.sleep(0)


async def test_a_fast_block_is_left_alone() -> None:
    """Nothing is cancelled after its end, however long its task lives."""
    deadlines = Deadlines(0.02)
    with deadlines.start():
        pass

    with pytest.raises(TimeoutError), deadlines.start():
        await asyncio.Event().wait()


async def test_a_deadline_can_be_moved_and_lifted() -> None:
    """`allow` only ever gives more time."""
    deadlines = Deadlines(0.05)
    with (deadline := deadlines.start()):
        deadline.allow(60)
        deadline.allow(0)
        await _another_ends(deadlines)
        deadline.lift()
        deadline.allow(0)
        await _another_ends(deadlines)


async def _another_ends(deadlines: Deadlines) -> None:
    async def wait() -> None:
        with pytest.raises(TimeoutError), deadlines.start():
            await asyncio.Event().wait()

    await asyncio.create_task(wait())


async def test_what_fails_before_the_deadline_keeps_its_error() -> None:
    """Only a cancellation becomes `TimeoutError`."""
    with pytest.raises(ValueError, match="its own"), Deadlines(60).start():
        raise ValueError("its own")


async def test_a_block_may_clean_up_after_its_deadline() -> None:
    """It is cancelled once, and an error of its own is not replaced."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            raise ValueError("while cleaning up")

    with pytest.raises(ValueError, match="while cleaning up"), Deadlines(0.02).start():
        await work()


async def test_a_block_that_was_cancelled_stays_cancelled() -> None:
    """The deadline does not hide that its task was to end."""
    entered = asyncio.Event()
    deadlines = Deadlines(0.02)

    async def work() -> None:
        with deadlines.start():
            entered.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                # The deadline has passed; now somebody else cancels the task as well.
                other.cancel()
                raise

    other = asyncio.create_task(work())
    await entered.wait()

    with pytest.raises(asyncio.CancelledError):
        await other
