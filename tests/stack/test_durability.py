"""Acknowledged data survives, whichever process dies."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from .mongod import Mongod
from .test_restart import all_running, failures_of_workers
from .traffic import Outcome, gather_limited, open_secret, post

pytestmark = pytest.mark.stack

OUTAGE = 10.0
CREATORS = 16


async def test_every_acknowledged_secret_opens_after_workers_were_killed(
    stack: RunningStack, client: ClientSession
) -> None:
    """10,000 creations are answered 201 while a worker is killed twice: all open."""
    keys: dict[str, str] = {}
    lost = Counter[int]()
    kills = 0

    async def store(index: int) -> None:
        while True:
            outcome = await post(client, "/generate", {"secret": f"secret {index}"})
            if outcome.status == 201:
                keys[outcome.body["secret_key"]] = f"secret {index}"
                return
            lost[outcome.status] += 1
            assert outcome.status == 502

    async def kill() -> None:
        nonlocal kills
        for threshold in (2_500, 6_000):
            while len(keys) < threshold:
                await asyncio.sleep(0.01)
            # Not 0, the process group of the tests, which it is while supervisord restarts the worker.
            while not (victim := (await asyncio.to_thread(stack.worker_pids))[1]):
                await asyncio.sleep(0.01)
            os.kill(victim, signal.SIGKILL)
            kills += 1

    async def check(index: int) -> None:
        key, secret = pairs[index]
        outcome = await open_secret(client, key)
        assert (outcome.status, outcome.body.get("secret")) == (200, secret)

    await all_running(stack)
    await asyncio.gather(gather_limited(10_000, 64, store), kill())
    pairs = list(keys.items())
    await gather_limited(len(pairs), 64, check)

    assert len(pairs) == 10_000
    assert kills == 2
    assert lost.total() < 2 * 64


async def until_stored(client: ClientSession) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            outcome = await post(client, "/generate", {"secret": "back"})
            if outcome.status == 201:
                return
            await asyncio.sleep(0.2)


class Load:
    """Clients that create and open continuously, and a record of their responses."""

    def __init__(self, client: ClientSession) -> None:
        self._client = client
        self._stopping = False
        self.outcomes: list[Outcome] = []
        self.acknowledged: dict[str, str] = {}
        self.opened = Counter[str]()
        self.refused: set[str] = set()
        self.unopened: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CREATORS):
                tasks.create_task(self._create(number))
                tasks.create_task(self._open())
            yield
            self._stopping = True

    async def open(self, key: str) -> Outcome:
        outcome = await open_secret(self._client, key)
        if outcome.status == 200:
            assert outcome.body["secret"] == self.acknowledged[key]
            self.opened[key] += 1
        return outcome

    async def _create(self, number: int) -> None:
        while not self._stopping:
            outcome = await post(self._client, "/generate", {"secret": f"secret {number}"})
            self.outcomes.append(outcome)
            if outcome.status == 201:
                key = outcome.body["secret_key"]
                self.acknowledged[key] = f"secret {number}"
                self.unopened.append(key)
            await asyncio.sleep(0.02)

    async def _open(self) -> None:
        while not self._stopping:
            if self.unopened:
                key = self.unopened.pop(0)
                outcome = await self.open(key)
                self.outcomes.append(outcome)
                if outcome.status == 503:
                    self.refused.add(key)
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("way", ["frozen", "restarted"])
async def test_a_ten_second_outage_of_mongodb_loses_no_secret(
    stack: RunningStack, client: ClientSession, mongod: Mongod, way: str
) -> None:
    """Each client gets 503s while MongoDB is still away; then the same workers continue, and each secret opens once."""
    before = await all_running(stack)
    load = Load(client)
    async with load.running():
        await asyncio.sleep(2)
        before_outage = len(load.outcomes)
        begun = time.monotonic()
        if way == "frozen":
            mongod.signal(signal.SIGSTOP)
        else:
            await asyncio.to_thread(mongod.stop)
        await asyncio.sleep(OUTAGE - (time.monotonic() - begun))
        meanwhile = Counter(outcome.status for outcome in load.outcomes[before_outage:])
        if way == "frozen":
            mongod.signal(signal.SIGCONT)
        else:
            await asyncio.to_thread(mongod.start)
        await until_stored(client)
        await asyncio.sleep(2)

    statuses = Counter(outcome.status for outcome in load.outcomes)
    assert set(statuses) == {200, 201, 503}, await failures_of_workers(stack)
    assert all(outcome.retry_after for outcome in load.outcomes if outcome.status == 503)
    assert meanwhile[503] >= CREATORS
    for key in load.unopened:
        assert (await load.open(key)).status == 200
    deadline = time.monotonic() + PATIENCE
    while load.refused and time.monotonic() < deadline:
        for key in list(load.refused):
            outcome = await load.open(key)
            # Until the claim is returned, the secret seems to be gone.
            assert outcome.status in {200, 404}
            if outcome.status == 200:
                load.refused.remove(key)
        await asyncio.sleep(0.2)

    assert load.refused == set()
    assert set(load.opened) == set(load.acknowledged)
    assert set(load.opened.values()) == {1}
    assert await all_running(stack) == before
