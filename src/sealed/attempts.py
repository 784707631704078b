"""The budget of wrong phrases: an attempt is spent before its phrase is tried and given back if the phrase is right.

An attempt that is being checked is listed in the item's ``checks`` and counts as spent, so concurrent guesses on any
number of workers never exceed the budget. An outcome is recorded only while its check is still listed. The check of a
worker that died lapses after `LEASE`; a worker that was merely slow finds its own check gone, and its outcome is
refused. The claim of the opening removes the check of a right phrase in the same command.

An attempt that may have been spent by a command without a reply, and one whose request fails before the phrase is
known to be right or wrong, is given back as soon as the database replies again. The id of its check is voided, so that
a late command spends nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo import ReturnDocument, WriteConcern

from ..core.clock import MILLISECOND
from ..core.database.mongo import Document, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged, Unavailable
from .items import COLLECTION, Item, ItemState, erased_when, files_end_when, from_document, voiding, waiting, without
from .store import DamageReporter, Rollbacks

LEASE = timedelta(seconds=60)


@dataclass(frozen=True)
class Attempt:
    """One attempt from an item's budget, and the item at the time that the attempt was spent."""

    check_id: ObjectId
    item: Item


class AttemptStore:
    """The attempts on items in MongoDB; ``damaged`` counts the items that cannot be read."""

    def __init__(self, mongo: Mongo, damaged: Counter = NOTHING) -> None:
        self._damage = DamageReporter(damaged)
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._rollbacks = Rollbacks(mongo.clock)
        # Spending need not wait for a majority. Every outcome waits for one before it is reported, and it is refused if
        # the check was rolled back.
        self._primary = self._collection.with_options(write_concern=WriteConcern(w=1, j=False))

    async def spend(self, item_id: bytes, key_ids: Sequence[str], claim_id: bytes | None = None) -> Attempt | None:
        """Spend an attempt on an item that was sealed with one of the server keys.

        Returns None if no such item with a phrase is waiting, if every attempt left is being checked, or if the item
        has been opened under ``claim_id``. Raises `Damaged`.
        """
        check_id = ObjectId()
        live = _checks_where({"$gt": ["$$check.at", {"$subtract": ["$$NOW", LEASE // MILLISECOND]}]})
        spent = {"$add": ["$failed_attempts", {"$size": live}]}
        try:
            with translate_mongo_errors():
                document = await self._primary.find_one_and_update(
                    {
                        **waiting([item_id]),
                        "key_id": {"$in": list(key_ids)},
                        "voided_claims": {"$ne": check_id},
                        **({"claims": {"$ne": claim_id}} if claim_id else {}),
                        "$and": [{"$expr": {"$lt": [spent, "$phrase.max_attempts"]}}],
                    },
                    [{"$set": {"checks": {"$concatArrays": [live, [{"id": check_id, "at": "$$NOW"}]]}}}],
                    return_document=ReturnDocument.AFTER,
                )
        except BaseException:
            # Cancelled, or no reply: the attempt may be spent, or may be yet.
            self._remove_soon(item_id, check_id, voiding(check_id))
            raise
        if document is None:
            return None
        try:
            return Attempt(check_id, from_document(document))
        except Damaged:
            raise self._damage.changed(item_id) from None

    async def give_back(self, attempt: Attempt) -> None:
        """Return an attempt without an outcome to the budget; for a right phrase, the claim does so.

        If the database does not answer, this is repeated in the background.
        """
        try:
            await self._remove(attempt.item.item_id, attempt.check_id)
        except Unavailable:
            self.give_back_soon(attempt)

    def give_back_soon(self, attempt: Attempt) -> None:
        """Do the same in the background, for a request that has been cancelled or that the database did not answer."""
        self._remove_soon(attempt.item.item_id, attempt.check_id)

    async def fail(self, attempt: Attempt) -> int | None:
        """Record a wrong phrase and return the number of attempts left; the last one destroys the item.

        Returns None if the attempt lapsed or the item is gone.
        """
        assert attempt.item.phrase is not None  # noqa: S101 (only items with a phrase have attempts)
        max_attempts = attempt.item.phrase.max_attempts
        is_last = {"$gte": ["$failed_attempts", max_attempts]}
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
                    {
                        "$set": {
                            **erased_when(is_last, ItemState.LOCKED),
                            **(files_end_when(is_last) if attempt.item.files else {}),
                        }
                    },
                ],
                {"failed_attempts": 1},
                return_document=ReturnDocument.AFTER,
            )
        return max_attempts - int(document["failed_attempts"]) if document else None

    async def close(self) -> None:
        """Wait for every attempt to be given back."""
        await self._rollbacks.close()

    def _remove_soon(self, item_id: bytes, check_id: ObjectId, also: Document | None = None) -> None:
        self._rollbacks.start(partial(self._remove, item_id, check_id, also), self._clock.now() + LEASE)

    async def _remove(self, item_id: bytes, check_id: ObjectId, also: Document | None = None) -> None:
        """Remove a check from a waiting item, and make further assignments."""
        with translate_mongo_errors():
            await self._collection.update_one(
                {"_id": item_id, "state": ItemState.WAITING.value, "phrase": {"$exists": True}},
                [{"$set": {"checks": without("$checks", "$$one.id", [check_id]), **(also or {})}}],
            )


def _held(attempt: Attempt) -> Document:
    return {"_id": attempt.item.item_id, "state": ItemState.WAITING.value, "checks.id": attempt.check_id}


def _checks_where(condition: Any) -> Document:
    return {"$filter": {"input": "$checks", "as": "check", "cond": condition}}
