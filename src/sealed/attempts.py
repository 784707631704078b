"""The budget of wrong phrases: spent before a phrase is tried, given back when it was right.

An attempt that is being checked stands in the item's ``checks`` and counts as spent, so that guesses in parallel, on
however many workers, together never exceed the budget. Every outcome needs the check to be still there: a worker that
died leaves one that lapses after `LEASE`, and one that was merely slow learns that its answer no longer counts. A right
phrase is settled by the claim of the opening, in the same command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument, WriteConcern

from ..core.clock import MILLISECOND
from ..core.database.mongo import Document, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged
from .damage import Damage
from .items import COLLECTION, Item, State, erased_when, from_document, waiting

LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class Attempt:
    """One attempt out of an item's budget, and the item as it was when it was taken."""

    check_id: ObjectId
    item: Item


class AttemptStore:
    """The attempts on items in MongoDB; ``damaged`` counts items that cannot be read."""

    def __init__(self, mongo: Mongo, damaged: Counter = NOTHING) -> None:
        self._damage = Damage(damaged)
        self._collection = mongo.collection(COLLECTION)
        # Spending need not wait for a majority: no outcome is told before one has acknowledged it, and the outcome is
        # refused where the check has not survived.
        self._primary = self._collection.with_options(write_concern=WriteConcern(w=1, j=False))

    async def spend(self, item_id: bytes, key_ids: Sequence[str]) -> Attempt | None:
        """Take an attempt on an item that was sealed with one of the server keys.

        Returns None when there is no such item with a phrase waiting, or every attempt left is being checked. Raises
        `Damaged`.
        """
        check_id = ObjectId()
        live = _checks_where({"$gt": ["$$check.at", {"$subtract": ["$$NOW", LEASE // MILLISECOND]}]})
        spent = {"$add": ["$failed_attempts", {"$size": live}]}
        with translate_mongo_errors():
            document = await self._primary.find_one_and_update(
                {
                    **waiting([item_id]),
                    "key_id": {"$in": list(key_ids)},
                    "$and": [{"$expr": {"$lt": [spent, "$phrase.max_attempts"]}}],
                },
                [{"$set": {"checks": {"$concatArrays": [live, [{"id": check_id, "at": "$$NOW"}]]}}}],
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            return None
        try:
            return Attempt(check_id, from_document(document))
        except Damaged:
            raise self._damage.changed(item_id) from None

    async def give_back(self, attempt: Attempt) -> None:
        """Return an attempt to the budget because its phrase was not tried; a right one returns with the claim."""
        with translate_mongo_errors():
            await self._collection.update_one(_held(attempt), {"$pull": {"checks": {"id": attempt.check_id}}})

    async def fail(self, attempt: Attempt) -> int | None:
        """Record a wrong phrase and return the attempts left, destroying the item with the last one.

        Returns None when the attempt lapsed or the item is gone.
        """
        assert attempt.item.phrase is not None  # noqa: S101 (only items with a phrase have attempts)
        max_attempts = attempt.item.phrase.max_attempts
        with translate_mongo_errors():
            document = await self._collection.find_one_and_update(
                _held(attempt),
                [
                    {
                        "$set": {
                            "failed_attempts": {"$add": ["$failed_attempts", 1]},
                            "checks": _checks_where({"$ne": ["$$check.id", attempt.check_id]}),
                        }
                    },
                    {"$set": erased_when({"$gte": ["$failed_attempts", max_attempts]}, State.LOCKED)},
                ],
                {"failed_attempts": 1},
                return_document=ReturnDocument.AFTER,
            )
        return max_attempts - int(document["failed_attempts"]) if document else None


def _held(attempt: Attempt) -> Document:
    return {"_id": attempt.item.item_id, "state": State.WAITING.value, "checks.id": attempt.check_id}


def _checks_where(condition: Any) -> Document:
    return {"$filter": {"input": "$checks", "as": "check", "cond": condition}}
