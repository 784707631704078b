"""Limits on failed attempts, such as wrong passwords; successful attempts never count.

While an attempt is checked, it holds a lease in the counter of each of its limits. One command releases the lease and
counts a failure, so parallel attempts on any number of workers never exceed a limit. An attempt that finds all
remaining leases taken waits until one is released: a success leaves the count unchanged. The lease of a dead worker
expires.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from bson import ObjectId
from pymongo import UpdateOne

from ...errors import Unavailable
from ..clock import MILLISECOND
from ..crypto.keys import KeyRing
from ..metrics import NOTHING, Counter
from .limits import Counters, LimitReached, limit_reached
from .mongo import Document, Mongo, translate_mongo_errors

Result = TypeVar("Result")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.1
BUSY = "Too many passwords are being checked. Try again after the delay in Retry-After."


class FailureLimit:
    """At most ``maximum`` failures in each ``window`` for each subject.

    An attempt waits up to ``patience`` seconds for a lease. The lease expires after ``lease``, which must be longer
    than any attempt. A limit that is not ``enabled`` counts nothing.
    """

    def __init__(
        self,
        mongo: Mongo,
        ring: KeyRing,
        name: str,
        maximum: int,
        window: timedelta,
        *,
        patience: float,
        lease: timedelta,
        enabled: bool = True,
        refusals: Counter = NOTHING,
    ) -> None:
        self._counters = Counters(mongo, ring, name, window)
        self._maximum = maximum
        self._patience = patience
        self._lease = lease // MILLISECOND
        self._enabled = enabled
        self._refusals = refusals
        # Of the attempts that wait in this process for the same counter, only the first polls MongoDB.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, *subject: str) -> "Subject":
        """Return the limit of one subject, given as `Counters` describes."""
        return Subject(self, self._counters.key(*subject))

    async def forget(self, *subject: str) -> None:
        """Reset the failures of a subject, or of a whole group. Raises `Unavailable`."""
        await self._counters.forget(*subject)

    async def enter(self, key: str, try_id: ObjectId) -> None:
        """Acquire a lease for an attempt. Raises `LimitReached`, and `Unavailable`, also after waiting in vain."""
        if not self._enabled:
            return
        turn = self._turns.setdefault(key, asyncio.Lock())
        # Queue behind attempts that already wait.
        if not turn.locked() and await _finished(self._take_place(key, try_id)):
            return
        try:
            async with asyncio.timeout(self._patience), turn:
                pause = FIRST_PAUSE
                while not await _finished(self._take_place(key, try_id)):
                    await asyncio.sleep(pause)
                    pause = min(pause * 2, LONGEST_PAUSE)
        except TimeoutError:
            raise Unavailable(BUSY) from None

    def leaving(self, key: str, try_id: ObjectId, *, failed: bool) -> list[UpdateOne]:
        """Return the command that releases an attempt's lease and counts its failure, unless the window has ended."""
        if not self._enabled:
            return []
        places: Document = {"$ifNull": ["$places", []]}
        changes: Document = {
            "places": {"$filter": {"input": places, "as": "place", "cond": {"$ne": ["$$place.id", try_id]}}}
        }
        if failed:
            has_not_ended = {"$gt": ["$expireAt", "$$NOW"]}
            changes["count"] = {"$add": ["$count", {"$cond": [has_not_ended, 1, 0]}]}
        return [UpdateOne({"_id": key}, [{"$set": changes}])]

    async def write(self, commands: Sequence[UpdateOne]) -> None:
        """Execute commands of any failure limits. Raises `Unavailable`."""
        with translate_mongo_errors():
            await self._counters.collection.bulk_write(list(commands), ordered=False)

    async def _take_place(self, key: str, try_id: ObjectId) -> bool:
        places: Document = {"$ifNull": ["$places", []]}
        held = {"$gt": ["$$place.at", {"$subtract": ["$$NOW", self._lease]}]}
        counter = await self._counters.update(
            key,
            {"places": {"$filter": {"input": places, "as": "place", "cond": held}}},
            {"granted": {"$lt": [{"$add": ["$count", {"$size": "$places"}]}, self._maximum]}},
            {
                "places": {
                    "$concatArrays": ["$places", {"$cond": ["$granted", [{"id": try_id, "at": "$$NOW"}], []]}],
                }
            },
        )
        if counter["count"] >= self._maximum:
            self._refusals.inc()
            raise limit_reached(counter)
        return bool(counter["granted"])


@dataclass(frozen=True)
class Subject:
    """A limit and one of its subjects."""

    limit: FailureLimit
    key: str


@asynccontextmanager
async def failures_counted(*subjects: Subject) -> AsyncIterator[None]:
    """Count a failure for each subject if the block raises, unless it made no attempt.

    It made no attempt if it raises `LimitReached` or `Unavailable`, or is cancelled. If one limit refuses an attempt,
    no limit counts it. Raises `LimitReached`, and `Unavailable` if the outcome could not be counted.
    """
    try_id = ObjectId()
    entered: list[Subject] = []
    failed = False
    try:
        for subject in subjects:
            entered.append(subject)
            await subject.limit.enter(subject.key, try_id)
        yield
    except (LimitReached, Unavailable):
        raise
    except Exception:
        failed = True
        raise
    finally:
        commands = [
            command for subject in entered for command in subject.limit.leaving(subject.key, try_id, failed=failed)
        ]
        if commands:
            await _finished(entered[0].limit.write(commands))


async def _finished(work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of work, which runs to its end even if the caller is cancelled.

    A command that outlived its caller could acquire a lease after the attempt released it.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
