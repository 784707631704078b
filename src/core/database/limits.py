"""Rate limits in fixed windows, counted in MongoDB and shared by all workers.

Subjects are stored under a keyed blind index, so the counters name neither accounts nor addresses. Windows begin and
end by MongoDB's clock, and a window begins with the first amount that is counted in it. A counter that cannot be
reached lets nothing through.
"""

from datetime import datetime, timedelta
from math import ceil
from typing import Any

from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from ...errors import TooMany
from ..clock import MILLISECOND
from ..crypto.blind_index import BlindIndex
from ..crypto.keys import KeyRing
from ..metrics import NOTHING, Counter
from .mongo import Document, Indexes, Mongo, answering

COLLECTION = "limits"
INDEXES: Indexes = {COLLECTION: [IndexModel("expireAt", name="expireAt", expireAfterSeconds=0)]}
# A window that counts nothing begins anew with the next request.
IS_LIVE: Document = {"$and": [{"$gt": ["$expireAt", "$$NOW"]}, {"$gt": ["$count", 0]}]}


class LimitReached(TooMany):
    """The limit is used up until the window ends, after ``Retry-After``."""

    code, default = "limit_reached", "Tried too often. Try again after the seconds in Retry-After."


class Counters:
    """The documents that count for one limit, one for each subject; ``name`` separates them from those of others.

    A subject is an account, an address, or a list of such, of which the first is the group that it belongs to.
    """

    def __init__(self, mongo: Mongo, ring: KeyRing, name: str, window: timedelta) -> None:
        self.collection = mongo.collection(COLLECTION)
        self._index = BlindIndex(ring, name)
        self._window = window // MILLISECOND

    def key(self, *subject: str) -> str:
        """Return the id of a subject's counter: that of its group comes first."""
        return "/".join(self._index.of("\0".join(subject[:length]))[0].hex() for length in range(1, len(subject) + 1))

    async def update(self, key: str, *changes: Document) -> Document:
        """Update a counter in its present window, and return it with the ``milliseconds_left`` of that.

        Counter and window are created where there are none. Raises `Unavailable`.
        """
        window: Document = {
            "count": {"$cond": [IS_LIVE, "$count", 0]},
            "expireAt": {"$cond": [IS_LIVE, "$expireAt", {"$add": ["$$NOW", self._window]}]},
        }
        fields: Any = {"granted": 1, "count": 1, "expireAt": 1}
        fields["milliseconds_left"] = {"$subtract": ["$expireAt", "$$NOW"]}
        while True:
            with answering():
                try:
                    counter: Document = await self.collection.find_one_and_update(
                        {"_id": key},
                        [{"$set": window}, *({"$set": change} for change in changes)],
                        fields,
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
                except DuplicateKeyError:
                    continue  # another request has created it since
            return counter

    async def forget(self, *subject: str) -> None:
        """Delete the counter of a subject, and those of the group where it is one. Raises `Unavailable`."""
        key = self.key(*subject)
        with answering():
            # "0" follows "/".
            await self.collection.delete_many({"_id": {"$gte": key, "$lt": key + "0"}})


class Limit:
    """At most ``maximum`` in each ``window`` for each subject: an account, an address, a network.

    A limit that is not ``enabled`` counts nothing.
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
        self._counters = Counters(mongo, ring, name, window)
        self._clock = mongo.clock
        self._maximum = maximum
        self._enabled = enabled
        self._refusals = refusals

    async def spend(self, subject: str, amount: int = 1) -> datetime:
        """Count an amount and return the end of the window that it was counted in.

        Raises `LimitReached`, having counted nothing, where the amount would exceed the limit, and `Unavailable`.
        """
        if not self._enabled:
            return self._clock.now()
        counter = await self._counters.update(
            self._counters.key(subject),
            {"granted": {"$lte": [{"$add": ["$count", amount]}, self._maximum]}},
            {"count": {"$add": ["$count", {"$cond": ["$granted", amount, 0]}]}},
        )
        if not counter["granted"]:
            self._refusals.inc()
            raise limit_reached(counter)
        end: datetime = counter["expireAt"]
        return end

    async def give_back(self, subject: str, amount: int = 1, *, window: datetime) -> None:
        """Take back an amount that was counted in the window with this end, if that window has not ended.

        Raises `Unavailable`.
        """
        if not self._enabled:
            return
        same = {"_id": self._counters.key(subject), "expireAt": window}
        reduced = {"count": {"$max": [0, {"$subtract": ["$count", amount]}]}}
        with answering():
            await self._counters.collection.update_one(same, [{"$set": reduced}])

    async def forget(self, subject: str) -> None:
        """Delete the counter of a subject. Raises `Unavailable`."""
        await self._counters.forget(subject)


def limit_reached(counter: Document) -> LimitReached:
    """Return the refusal of a counter that is used up until its window ends."""
    return LimitReached(retry_after=max(1, ceil(counter["milliseconds_left"] / 1000)))
