"""Limits on how often something may be tried, counted in MongoDB, so that all workers share them.

What is counted by is written down under a keyed blind index only: the counters name neither accounts nor addresses. A
counter that MongoDB does not answer for lets nothing through.
"""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import ceil
from typing import Any

from limits import parse
from limits.aio.storage import MongoDBStorage
from limits.aio.strategies import FixedWindowRateLimiter
from pymongo import IndexModel

from ..errors import TooMany, Unavailable
from .blind_index import BlindIndex
from .clock import utc_now
from .keys import KeyRing
from .metrics import NOTHING, Counter
from .mongo import Indexes, Mongo, answering

COLLECTION = "limits"
INDEXES: Indexes = {COLLECTION: [IndexModel("expireAt", name="expireAt", expireAfterSeconds=0)]}


class LimitReached(TooMany):
    """Tried too often; the counter starts anew after ``Retry-After``."""

    code, default = "limit_reached", "Tried too often. Try again after the seconds in Retry-After."


class Limit:
    """So many in a span of time, counted for each of whatever it is asked about."""

    def __init__(
        self, counters: "Counters", ring: KeyRing, name: str, rate: str, *, enabled: bool, refusals: Counter = NOTHING
    ) -> None:
        self._counters = counters
        self._limiter = FixedWindowRateLimiter(counters)
        self._rate = parse(rate)
        self._index = BlindIndex(ring, name)
        self._enabled = enabled
        self._refusals = refusals

    async def spend(self, subject: str) -> None:
        """Count one. Raises `LimitReached`, and `Unavailable` where MongoDB does not answer."""
        if not self._enabled:
            return
        key = self._key(subject)
        with answering():
            if await self._limiter.hit(self._rate, key):
                return
            reset_at, _ = await self._limiter.get_window_stats(self._rate, key)
        self._refusals.inc()
        raise LimitReached(retry_after=max(1, ceil(reset_at - time.time())))

    async def give_back(self, subject: str) -> None:
        """Take back what was counted last."""
        if self._enabled:
            with answering():
                await self._counters.decrement(self._rate.key_for(self._key(subject)))

    async def forget(self, subject: str) -> None:
        """Begin the count anew."""
        with answering():
            await self._limiter.clear(self._rate, self._key(subject))

    def _key(self, subject: str) -> str:
        return self._index.of(subject)[0].hex()


@asynccontextmanager
async def failures_counted(*limits: tuple[Limit, str]) -> AsyncIterator[None]:
    """Count a try against each limit before it is made, and take it back when the block ends well or could not try.

    So tries in parallel, on however many workers, together never exceed a limit. What one limit refuses is not tried,
    and so counts against none.
    """
    spent: list[tuple[Limit, str]] = []
    try:
        for limit, subject in limits:
            await limit.spend(subject)
            spent.append((limit, subject))
        yield
    except (LimitReached, Unavailable):
        await _give_back(spent)
        raise
    await _give_back(spent)


async def _give_back(limits: Sequence[tuple[Limit, str]]) -> None:
    for limit, subject in limits:
        await limit.give_back(subject)


class Counters(MongoDBStorage):
    """The library's counters on our own connection, with the time-outs and the durability of every other command."""

    def __init__(self, mongo: Mongo) -> None:
        # The library makes a client of its own, which has not connected yet.
        super().__init__("async+mongodb://127.0.0.1", counter_collection_name=COLLECTION)
        self.storage.close()
        self._mongo = mongo

    @property
    def database(self) -> Any:
        """The database of the service."""
        return self._mongo.database

    async def create_indices(self) -> None:
        """Do nothing: the index is made with all others when the service starts."""

    async def get_expiry(self, key: str) -> float:
        """Return when a counter starts anew, in seconds since 1970; now for one that MongoDB has just removed."""
        counter = await self.database[COLLECTION].find_one({"_id": key})
        return float(counter["expireAt"].timestamp()) if counter else time.time()

    async def decrement(self, key: str) -> None:
        """Take one off a counter whose time is not over: taken off the next one, it would lift the limit there."""
        live = {"_id": key, "expireAt": {"$gt": utc_now()}, "count": {"$gt": 0}}
        await self.database[COLLECTION].update_one(live, {"$inc": {"count": -1}})

    def __del__(self) -> None:
        """Leave the connection open: it is not the counters' own."""
