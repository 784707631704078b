"""Limits on failed tries, such as wrong passwords, that never count a try which succeeds.

While a try is checked, it holds a place in the counter of each of its limits. Its outcome gives the place up, and a
failure is counted in the same command, so tries in parallel, on however many workers, never exceed a limit. A try that
finds all remaining places held by others waits until one of those is decided: a success leaves the count as it was. The
place of a worker that died lapses.
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
BUSY = "Too many passwords are being checked. Try again after the seconds in Retry-After."


class FailureLimit:
    """At most ``maximum`` failures in each ``window`` for each subject.

    A try waits up to ``patience`` seconds for a place, and its place lapses after the ``lease``, which must be longer
    than any try takes. A limit that is not ``enabled`` counts nothing.
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
        # Of the tries that wait in this process for the same counter, the first alone asks MongoDB again and again.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, *subject: str) -> "Subject":
        """Return the limit of one subject, given as `Counters` describes."""
        return Subject(self, self._counters.key(*subject))

    async def forget(self, *subject: str) -> None:
        """Forgive a subject's failures, and all of the group where it is one. Raises `Unavailable`."""
        await self._counters.forget(*subject)

    async def enter(self, key: str, try_id: ObjectId) -> None:
        """Take a place for a try. Raises `LimitReached`, and `Unavailable` also after waiting in vain."""
        if not self._enabled:
            return
        turn = self._turns.setdefault(key, asyncio.Lock())
        # Where others wait, this one queues up behind them.
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
        """Return the command that gives a try's place up and counts its failure, unless the window has ended."""
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
        """Carry out commands of any failure limits. Raises `Unavailable`."""
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
    """A limit and the counter of one of its subjects."""

    limit: FailureLimit
    key: str


@asynccontextmanager
async def failures_counted(*subjects: Subject) -> AsyncIterator[None]:
    """Count the block as a failure for each subject if it raises, unless it could not try.

    It has not tried where it raises `LimitReached` or `Unavailable`, or is cancelled. A try that one limit refuses
    counts for none. Raises `LimitReached`, and `Unavailable` where the outcome could not be counted.
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
    """Return the result of work, which goes on to its end where the caller is cancelled.

    A command that went on by itself could take a place after the try had given it up.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise
