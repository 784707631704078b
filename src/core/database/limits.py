"""Rate limits in fixed windows, counted in MongoDB and shared by all workers.

Subjects are stored under a keyed blind index, so the counters disclose neither accounts nor addresses. Windows follow
MongoDB's clock, and a window begins with the first amount counted in it. Requests are refused if the counter cannot be
reached.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from ...errors import TooMany
from ..clock import MILLISECOND, DatabaseClock
from ..crypto.blind_index import BlindIndex
from ..crypto.keys import KeyRing
from ..metrics import NOTHING, Counter
from .mongo import Document, Indexes, Mongo, translate_mongo_errors

COLLECTION = "limits"
INDEXES: Indexes = {COLLECTION: [IndexModel("expireAt", name="expireAt", expireAfterSeconds=0)]}
# A window with a count of 0 restarts with the next request.
IS_LIVE: Document = {"$and": [{"$gt": ["$expireAt", "$$NOW"]}, {"$gt": ["$count", 0]}]}


class LimitReached(TooMany):
    """The limit is used up until the window ends, after ``Retry-After``."""

    code, default = "limit_reached", "Too many attempts. Try again after the delay in Retry-After."


class Counters:
    """The counters of one limit, a document for each subject; ``name`` separates them from those of other limits.

    A subject is an account or an address, or a list of them whose first element is the group of the subject.
    """

    def __init__(self, mongo: Mongo, ring: KeyRing, name: str, window: timedelta) -> None:
        self.collection = mongo.collection(COLLECTION)
        self._index = BlindIndex(ring, name)
        self._window = window // MILLISECOND

    def key(self, *subject: str) -> str:
        """Return the id of a subject's counter, which begins with the id of its group's counter."""
        return "/".join(self._index.of("\0".join(subject[:length]))[0].hex() for length in range(1, len(subject) + 1))

    async def update(self, key: str, *changes: Document) -> Document:
        """Update a counter in its current window, and return it with the window's ``milliseconds_left``.

        Counter and window are created if they do not exist. Raises `Unavailable`.
        """
        window: Document = {
            "count": {"$cond": [IS_LIVE, "$count", 0]},
            "expireAt": {"$cond": [IS_LIVE, "$expireAt", {"$add": ["$$NOW", self._window]}]},
        }
        fields: Any = {"granted": 1, "count": 1, "expireAt": 1}
        fields["milliseconds_left"] = {"$subtract": ["$expireAt", "$$NOW"]}
        while True:
            with translate_mongo_errors():
                try:
                    counter: Document = await self.collection.find_one_and_update(
                        {"_id": key},
                        [{"$set": window}, *({"$set": change} for change in changes)],
                        fields,
                        upsert=True,
                        return_document=ReturnDocument.AFTER,
                    )
                except DuplicateKeyError:
                    continue  # another request created it meanwhile
            return counter

    async def forget(self, *subject: str) -> None:
        """Delete the counter of a subject, or all counters of a group. Raises `Unavailable`."""
        key = self.key(*subject)
        with translate_mongo_errors():
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
        """Count an amount, and return the end of its window.

        Raises `LimitReached` if the amount would exceed the limit, in which case nothing is counted, and `Unavailable`.
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
        """Subtract an amount that was counted in the window with this end, if that window has not ended.

        Raises `Unavailable`.
        """
        if not self._enabled:
            return
        same = {"_id": self._counters.key(subject), "expireAt": window}
        reduced = {"count": {"$max": [0, {"$subtract": ["$count", amount]}]}}
        with translate_mongo_errors():
            await self._counters.collection.update_one(same, [{"$set": reduced}])

    async def forget(self, subject: str) -> None:
        """Delete the counter of a subject. Raises `Unavailable`."""
        await self._counters.forget(subject)


def limit_reached(counter: Document) -> LimitReached:
    """Return the error for a counter that is used up until its window ends."""
    return LimitReached(retry_after=max(1, ceil(counter["milliseconds_left"] / 1000)))


MOST_SUBJECTS = 10_000
LARGEST_BLOCK = 1024 * 1024
BLOCKS = 100
SPENT = "You have used up your storage budget for now. Try again after the delay in Retry-After."


@dataclass
class _Block:
    """Bytes that are counted in MongoDB and not spent yet; they expire with their window."""

    left: int = 0
    window: datetime | None = None
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)


class ByteBudget:
    """A limit on the bytes that each subject stores, reserved in blocks so that most requests need no command.

    A block is 1 MiB, or 1 % of a budget below 100 MiB. Blocks are counted before they are spent and expire with their
    window, so at the end of a window the budget is exceeded by at most 1 request of each process. It falls short by at
    most 1 block for each other process that serves the subject, and by the rest of a block for a subject that is no
    longer among the last 10,000, which are kept in memory. Bytes of a request that fails later stay spent.
    """

    def __init__(self, limit: Limit, clock: DatabaseClock, budget: int, refusals: Counter = NOTHING) -> None:
        self._limit = limit
        self._clock = clock
        self._block = max(1, min(LARGEST_BLOCK, budget // BLOCKS))
        self._refusals = refusals
        self._blocks: OrderedDict[str, _Block] = OrderedDict()

    async def spend(self, subject: str, size: int) -> None:
        """Spend ``size`` bytes of a subject's budget.

        Raises `LimitReached`, in which case nothing is spent, and `Unavailable`.
        """
        block = self._block_of(subject)
        # One request reserves at a time: the requests behind it may find enough bytes in its block.
        async with block.reserving:
            if block.window is None or block.window <= self._clock.now():
                block.left = 0
            if size > block.left:
                await self._reserve(subject, block, size - block.left)
            block.left = max(0, block.left - size)

    async def _reserve(self, subject: str, block: _Block, missing: int) -> None:
        for amount in (max(missing, self._block), missing):
            try:
                window = await self._limit.spend(subject, amount)
            except LimitReached as error:
                # The rest of the budget may be smaller than a block and still sufficient.
                if amount > missing:
                    continue
                self._refusals.inc()
                raise LimitReached(SPENT, retry_after=int(error.headers["Retry-After"])) from None
            block.left = amount + (block.left if window == block.window else 0)
            block.window = window
            return

    def _block_of(self, subject: str) -> _Block:
        block = self._blocks.setdefault(subject, _Block())
        self._blocks.move_to_end(subject)
        if len(self._blocks) > MOST_SUBJECTS:
            self._blocks.popitem(last=False)
        return block
