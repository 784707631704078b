"""Rate limits in fixed windows, counted in MongoDB and shared by all workers.

Subjects are stored under a keyed blind index, so the counters name neither accounts nor addresses. Windows begin and
end by MongoDB's clock, and a window begins with the first amount that is counted in it. A counter that cannot be
reached lets nothing through.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from ..errors import TooMany, Unavailable
from .blind_index import BlindIndex
from .clock import MILLISECOND, utc_now
from .keys import KeyRing
from .metrics import NOTHING, Counter
from .mongo import Document, Indexes, Mongo, answering

COLLECTION = "limits"
INDEXES: Indexes = {COLLECTION: [IndexModel("expireAt", name="expireAt", expireAfterSeconds=0)]}
# A window that counts nothing, because all of it was given back, begins anew with the next amount.
_IS_LIVE: Document = {"$and": [{"$gt": ["$expireAt", "$$NOW"]}, {"$gt": ["$count", 0]}]}


class LimitReached(TooMany):
    """The limit is used up until the window ends, after ``Retry-After``."""

    code, default = "limit_reached", "Tried too often. Try again after the seconds in Retry-After."


class Limit:
    """At most ``maximum`` in each ``window``, counted for each subject: an account, an address, a network.

    ``name`` separates the counters of one limit from those of another. A limit that is not ``enabled`` counts nothing.
    """

    def __init__(
        self,
        mongo: Mongo,
        ring: KeyRing,
        name: str,
        maximum: int,
        window: timedelta,
        *,
        enabled: bool = True,
        refusals: Counter = NOTHING,
    ) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._index = BlindIndex(ring, name)
        self._maximum = maximum
        self._window = window
        self._enabled = enabled
        self._refusals = refusals

    async def spend(self, subject: str, amount: int = 1) -> datetime:
        """Count an amount and return the end of the window that it was counted in.

        Raises `LimitReached`, having counted nothing, where the amount would exceed the limit, and `Unavailable`.
        """
        if not self._enabled:
            return utc_now()
        counter = await self._update(
            subject,
            [
                {
                    "$set": {
                        "count": {"$cond": [_IS_LIVE, "$count", 0]},
                        "expireAt": {
                            "$cond": [_IS_LIVE, "$expireAt", {"$add": ["$$NOW", self._window // MILLISECOND]}]
                        },
                    }
                },
                {"$set": {"granted": {"$lte": [{"$add": ["$count", amount]}, self._maximum]}}},
                {"$set": {"count": {"$add": ["$count", {"$cond": ["$granted", amount, 0]}]}}},
            ],
        )
        if not counter["granted"]:
            self._refusals.inc()
            raise LimitReached(retry_after=max(1, ceil(counter["milliseconds_left"] / 1000)))
        end: datetime = counter["expireAt"]
        return end

    async def give_back(self, subject: str, amount: int = 1, *, window: datetime) -> None:
        """Take back an amount that was counted in the window with this end, if that window has not ended.

        Raises `Unavailable`.
        """
        if not self._enabled:
            return
        same = {"_id": self._key(subject), "expireAt": window}
        with answering():
            await self._collection.update_one(
                same, [{"$set": {"count": {"$max": [0, {"$subtract": ["$count", amount]}]}}}]
            )

    async def forget(self, subject: str) -> None:
        """Delete the counter of a subject. Raises `Unavailable`."""
        with answering():
            await self._collection.delete_one({"_id": self._key(subject)})

    async def _update(self, subject: str, changes: list[Document]) -> Document:
        """Update a counter, which is created if need be, and return it with the milliseconds until its window ends."""
        fields: Any = {"granted": 1, "expireAt": 1, "milliseconds_left": {"$subtract": ["$expireAt", "$$NOW"]}}
        while True:
            with answering():
                try:
                    counter: Document = await self._collection.find_one_and_update(
                        {"_id": self._key(subject)},
                        changes,
                        fields,
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
                except DuplicateKeyError:
                    continue  # another request has created it since
            return counter

    def _key(self, subject: str) -> str:
        return self._index.of(subject)[0].hex()


@asynccontextmanager
async def failures_counted(*limits: tuple[Limit, str]) -> AsyncIterator[None]:
    """Count a try against each limit before it is made, and take it back when the block ends well or could not try.

    So tries in parallel, on however many workers, together never exceed a limit. What one limit refuses is not tried,
    and so counts against none.
    """
    spent: list[tuple[Limit, str, datetime]] = []
    try:
        for limit, subject in limits:
            spent.append((limit, subject, await limit.spend(subject)))
        yield
    except (LimitReached, Unavailable):
        await _give_back(spent)
        raise
    await _give_back(spent)


async def _give_back(spent: list[tuple[Limit, str, datetime]]) -> None:
    for limit, subject, window in spent:
        await limit.give_back(subject, window=window)
