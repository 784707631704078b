"""Clients that create and open continuously, and a record of their responses."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

from aiohttp import ClientSession

from ..stack.traffic import Outcome, gather_limited, post

CLIENTS = 8
PAUSE = 0.04


class Load:
    """Load on one service; every secret is opened twice at once."""

    def __init__(self, client: ClientSession) -> None:
        self._client = client
        self._stopping = False
        self._unopened: list[str] = []
        self.acknowledged: dict[str, str] = {}
        self.acknowledged_at: list[float] = []
        self.opened = Counter[str]()
        self.unclear: set[str] = set()
        self.lost: set[str] = set()
        self.statuses = Counter[int]()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            for number in range(CLIENTS):
                tasks.create_task(self._create(number))
                tasks.create_task(self._open())
            try:
                yield
            finally:
                self._stopping = True

    async def until_stored(self, after: float, within: float) -> float:
        """Wait for a secret that was stored later than ``after``, and return the duration."""
        async with asyncio.timeout(within):
            while not self.acknowledged_at or self.acknowledged_at[-1] < after:
                await asyncio.sleep(0.05)
        return self.acknowledged_at[-1] - after

    def longest_gap(self, since: float) -> float:
        """Return the longest time, in seconds, between two secrets that were stored after a moment."""
        times = [since, *(moment for moment in self.acknowledged_at if moment >= since)]
        return max(after - before for before, after in pairwise(times))

    async def settle(self) -> None:
        """Open every secret that has not certainly been opened."""
        waiting = [*self._unopened, *self.unclear]
        await gather_limited(len(waiting), CLIENTS, lambda index: self._race(waiting[index]))

    async def _post(self, path: str, body: dict[str, str] | None = None) -> Outcome:
        try:
            return await post(self._client, path, body)
        except TimeoutError:
            return Outcome(0, {}, None, 0)

    async def _create(self, number: int) -> None:
        while not self._stopping:
            text = f"secret {number} of {time.monotonic()}"
            outcome = await self._post("/generate", {"secret": text})
            self.statuses[outcome.status] += 1
            if outcome.status == 201:
                key = outcome.body["secret_key"]
                self.acknowledged[key] = text
                self.acknowledged_at.append(time.monotonic())
                self._unopened.append(key)
            await asyncio.sleep(PAUSE)

    async def _open(self) -> None:
        while not self._stopping:
            # Some remain until the end, so that a crash could always lose some.
            if len(self._unopened) > 50:
                await self._race(self._unopened.pop(0))
            await asyncio.sleep(PAUSE)

    async def _race(self, key: str) -> None:
        known = key not in self.unclear
        outcomes = await asyncio.gather(*(self._post(f"/secrets/{key}") for _ in range(2)))
        for outcome in outcomes:
            self.statuses[outcome.status] += 1
            if outcome.status == 200:
                assert outcome.body["secret"] == self.acknowledged[key]
                self.opened[key] += 1
        statuses = {outcome.status for outcome in outcomes}
        if known and statuses == {404}:
            self.lost.add(key)
        elif 200 not in statuses:
            self.unclear.add(key)
