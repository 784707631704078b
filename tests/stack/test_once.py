"""A secret opens exactly as often as allowed, over all workers and despite crashes."""

import asyncio
import os
import signal

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from .test_restart import all_running
from .traffic import create, open_secret

pytestmark = pytest.mark.stack

AT_ONCE = 200


async def race(client: ClientSession, key: str) -> list[int]:
    """Open one secret many times at once, and return the sorted statuses."""
    outcomes = await asyncio.gather(*(open_secret(client, key) for _ in range(AT_ONCE)))
    assert {"raced"} >= {outcome.body["secret"] for outcome in outcomes if outcome.status == 200}
    return sorted(outcome.status for outcome in outcomes)


async def test_of_two_hundred_who_open_at_once_one_succeeds(stack: RunningStack, client: ClientSession) -> None:
    """50 times over: 1 opening succeeds, and 199 get a 404."""
    await all_running(stack)
    for _ in range(50):
        statuses = await race(client, await create(client, "raced"))

        assert statuses == [200] + [404] * (AT_ONCE - 1)


async def test_seven_openings_are_seven(stack: RunningStack, client: ClientSession) -> None:
    """A secret with max_opens 7 is opened by 7 of 200."""
    await all_running(stack)
    for _ in range(20):
        statuses = await race(client, await create(client, "raced", max_opens=7))

        assert statuses == [200] * 7 + [404] * (AT_ONCE - 7)


@pytest.mark.parametrize("victim", range(4))
async def test_never_two_openings_while_a_worker_is_killed(
    stack: RunningStack, client: ClientSession, victim: int
) -> None:
    """The worker may die before or after its claim: the secret may be lost with it, but never opens twice."""
    workers = await all_running(stack)
    keys = [await create(client, "raced") for _ in range(5)]
    races = asyncio.gather(*(race(client, key) for key in keys))
    await asyncio.sleep(0.1 + victim * 0.05)
    os.kill(workers[victim], signal.SIGKILL)

    for statuses in await races:
        assert statuses.count(200) <= 1
        assert set(statuses) <= {200, 404, 502}
    for key in keys:
        assert (await open_secret(client, key)).status in {200, 404}
        assert (await open_secret(client, key)).status == 404
