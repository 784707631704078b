"""Opening exactly once.

A claim takes one opening from an item and, with the last one, erases the envelope. It is one command, which a majority
acknowledges before any plaintext is sent. Claims of different items share a command, stamped with a fresh claim id.
Unless all claimed items matched and each had a single opening, the winners are read back by their stamp.

A command whose reply is lost may or may not have been executed, and may still be. Its requests are answered with 503,
so its plaintexts are never sent, and its claims are given back as soon as the database replies again. Giving a claim
back removes its stamp if it is there and voids its id on the item, so that a late command is refused. A claim
that is won after its request has timed out is given back in the same way. An item that its sender has burned in the
meantime stays without its envelope and becomes ``burned``.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import structlog
from bson import ObjectId

from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Mongo, translate_mongo_errors
from ..errors import Unavailable
from .items import COLLECTION, Item, ItemState, erased_when, waiting

VOIDED_KEPT = 100
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

log = structlog.get_logger(__name__)


class Claim(NamedTuple):
    """A request to open an item, with the check of its phrase if it has one."""

    item: Item
    check_id: ObjectId | None


class Won(NamedTuple):
    """A claim that succeeded."""

    claim_id: ObjectId
    opens_left: int


class ClaimStore:
    """The openings of items in MongoDB."""

    def __init__(self, mongo: Mongo, batching: Batching) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        # At most one claim per item in a batch: the command takes one opening from each document that it matches.
        self._claims = batching(
            "claim_items", self._claim_each, key=lambda claim: claim.item.item_id, abandoned=self._give_back_abandoned
        )
        self._returns: set[asyncio.Task[None]] = set()

    async def claim(self, item: Item, check_id: ObjectId | None = None) -> int | None:
        """Take one opening and return how many are left; None if another reader has taken the last one.

        ``item`` must include its envelope, which is restored if the outcome stays unknown; `Unavailable` is raised
        then. An item with a phrase is claimed with the check of its attempt, which the same command gives back; None is
        also returned if that check has lapsed.
        """
        won = await self._claims.submit(Claim(item, check_id))
        return won.opens_left if won else None

    async def close(self) -> None:
        """Wait for the commands in flight and for every claim to be given back."""
        await self._claims.close()
        while self._returns:
            await asyncio.wait(self._returns)

    async def _claim_each(self, claims: Sequence[Claim]) -> Sequence[Won | None]:
        claim_id = ObjectId()
        try:
            with translate_mongo_errors():
                return await self._claim_all(claim_id, claims)
        except Unavailable:
            for claim in claims:
                self._give_back_soon(claim_id, claim)
            raise

    async def _claim_all(self, claim_id: ObjectId, claims: Sequence[Claim]) -> list[Won | None]:
        item_ids = [claim.item.item_id for claim in claims]
        check_ids = [claim.check_id for claim in claims if claim.check_id]
        checked = {"$or": [{"phrase": {"$exists": False}}, {"checks.id": {"$in": check_ids}}]}
        result = await self._collection.update_many(
            {**waiting(item_ids), "voided_claims": {"$ne": claim_id}, **checked},
            [
                {
                    "$set": {
                        "opened_at": "$$NOW",
                        "claims": {"$concatArrays": [{"$ifNull": ["$claims", []]}, [claim_id]]},
                    }
                },
                *([{"$set": {"checks": _without("$checks", "$$one.id", check_ids)}}] if check_ids else []),
                {"$set": erased_when({"$gte": [{"$size": "$claims"}, "$max_opens"]}, ItemState.OPENED)},
            ],
        )
        if result.matched_count == len(claims) and all(claim.item.max_opens == 1 for claim in claims):
            return [Won(claim_id, 0)] * len(claims)
        query = {"_id": {"$in": item_ids}, "claims": claim_id}
        documents = await self._collection.find(query, {"claims": 1, "max_opens": 1}).to_list(None)
        winners = {document["_id"]: Won(claim_id, _opens_left(document, claim_id)) for document in documents}
        return [winners.get(item_id) for item_id in item_ids]

    def _give_back_abandoned(self, claim: Claim, won: Won | None) -> None:
        if won:
            self._give_back_soon(won.claim_id, claim)

    def _give_back_soon(self, claim_id: ObjectId, claim: Claim) -> None:
        task = asyncio.create_task(self._give_back(claim_id, claim))
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def _give_back(self, claim_id: ObjectId, claim: Claim) -> None:
        pause = FIRST_PAUSE
        item = claim.item
        while item.expires_at > self._clock.now():
            try:
                with translate_mongo_errors():
                    await self._collection.update_one(
                        {"_id": item.item_id, "state": {"$in": [ItemState.WAITING.value, ItemState.OPENED.value]}},
                        _giving_back(claim_id, claim),
                    )
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                log.info("opening with unknown outcome rolled back")
                return


def _opens_left(document: Document, claim_id: ObjectId) -> int:
    """Return how many openings were left right after the claim; later claims do not count."""
    return int(document["max_opens"]) - 1 - int(document["claims"].index(claim_id))


def _without(array: str, value: str, unwanted: Sequence[ObjectId]) -> Document:
    """Return the expression for an array without the elements whose value is unwanted."""
    elements = {"$ifNull": [array, []]}
    return {"$filter": {"input": elements, "as": "one", "cond": {"$not": [{"$in": [value, list(unwanted)]}]}}}


def _giving_back(claim_id: ObjectId, claim: Claim) -> list[Document]:
    """Return the pipeline update that undoes a claim if it was executed and voids its id in any case."""
    item = claim.item
    phrase = {"$literal": item.phrase.to_document()} if item.phrase else "$$REMOVE"
    is_burned = {"$gt": ["$burned_at", None]}

    def unless_burned(value: Any, otherwise: Any) -> Document:
        return {"$cond": [is_burned, otherwise, value]}

    was_claimed = {"$in": [claim_id, {"$ifNull": ["$claims", []]}]}
    others = _without("$claims", "$$one", [claim_id])
    undone = {
        "state": (unless_burned(ItemState.WAITING.value, ItemState.BURNED.value), "$state"),
        "envelope": (unless_burned({"$literal": item.envelope}, "$$REMOVE"), "$envelope"),
        "phrase": (unless_burned(phrase, "$$REMOVE"), "$phrase"),
        "delete_at": (unless_burned("$expires_at", "$delete_at"), "$delete_at"),
        "opened_at": ({"$cond": [{"$eq": [{"$size": others}, 0]}, "$$REMOVE", "$opened_at"]}, "$opened_at"),
        "claims": (others, "$claims"),
    }
    voided = {"$concatArrays": [{"$ifNull": ["$voided_claims", []]}, [claim_id]]}
    return [
        {
            "$set": {
                **{name: {"$cond": [was_claimed, then, otherwise]} for name, (then, otherwise) in undone.items()},
                "voided_claims": {"$slice": [voided, -VOIDED_KEPT]},
                **({"checks": _without("$checks", "$$one.id", [claim.check_id])} if claim.check_id else {}),
            }
        }
    ]
