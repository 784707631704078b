"""Opening exactly once.

A claim takes one opening from an item and, with the last one, erases the envelope. It is one command, which a majority
acknowledges before any plaintext is sent. Claims of different items share a command, stamped with a fresh claim id.
Unless all claimed items matched and each had a single opening, the winners are read back by their stamp.

A command whose reply is lost may or may not have been executed, and may still be. Its requests are answered with 503,
so its plaintexts are never sent, and its claims are given back as soon as the database replies again. Giving a claim
back removes its stamp if it is there and voids its id on the item, so that a late command is refused. A claim
that is won after its request has timed out is given back in the same way. An item that its sender has burned in the
meantime stays without its envelope and becomes ``burned``.

None of this applies to a claim whose reader has a key: its id is derived from that key, so the reader asks again and
learns the outcome. Claiming twice under one id takes one opening. If the server has made the key for the reader, the
reader cannot ask again before it has an answer, so the claim is given back, together with its hold. If the files of the
item have ended by then, the item stays as it is, because they may be erased.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

import structlog
from bson import ObjectId

from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Mongo, translate_mongo_errors
from ..errors import Damaged, Unavailable
from .items import COLLECTION, Item, ItemState, erased_when, files_end_when, from_document, voiding, waiting, without
from .store import Rollbacks

log = structlog.get_logger(__name__)


class HeldClaim(NamedTuple):
    """The id of a claim by a reader with a key, and the end of its hold. After that, the claim is refused.

    ``can_be_repeated`` is False if the reader does not have the key yet.
    """

    claim_id: bytes
    until: datetime
    can_be_repeated: bool = True


class Claim(NamedTuple):
    """A request to open an item, with the check of its phrase if it has one."""

    item: Item
    check_id: ObjectId | None
    held: HeldClaim | None

    @property
    def can_be_repeated(self) -> bool:
        """Tell whether its reader can ask for the outcome."""
        return self.held is not None and self.held.can_be_repeated


class Won(NamedTuple):
    """A claim that succeeded.

    ``held_until`` is the end of its hold, if any. ``leaves_check`` means that an earlier command with the same id has
    succeeded, so the check of this request is still listed.
    """

    claim_id: ObjectId | bytes
    opens_left: int
    held_until: datetime | None = None
    leaves_check: bool = False


class ClaimStore:
    """The openings of items in MongoDB."""

    def __init__(self, mongo: Mongo, batching: Batching) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        # At most one claim per item in a batch: the command takes one opening from each document that it matches.
        self._claims = batching(
            "claim_items", self._claim_each, key=lambda claim: claim.item.item_id, abandoned=self._give_back_abandoned
        )
        self._rollbacks = Rollbacks(mongo.clock)

    async def claim(self, item: Item, check_id: ObjectId | None = None, held: HeldClaim | None = None) -> Won | None:
        """Take one opening; None if another reader has taken the last one.

        ``item`` must include its envelope, which is restored if the outcome stays unknown; `Unavailable` is raised
        then. An item with a phrase is claimed with the check of its attempt, which the same command gives back; None is
        also returned if that check has lapsed. With ``held``, `Unavailable` changes nothing: claim again under the same
        id, unless it cannot be repeated. None is then also returned if the hold has ended.
        """
        return await self._claims.submit(Claim(item, check_id, held))

    async def close(self) -> None:
        """Wait for the commands in flight and for every claim to be given back."""
        await self._claims.close()
        await self._rollbacks.close()

    async def _claim_each(self, claims: Sequence[Claim]) -> Sequence[Won | None]:
        claim_id = ObjectId()
        try:
            with translate_mongo_errors():
                return await self._claim_all(claim_id, claims)
        except Unavailable:
            for claim in claims:
                if not claim.can_be_repeated:
                    self._give_back_soon(claim_id, claim)
            raise

    async def _claim_all(self, shared_id: ObjectId, claims: Sequence[Claim]) -> list[Won | None]:
        item_ids = [claim.item.item_id for claim in claims]
        check_ids = [claim.check_id for claim in claims if claim.check_id]
        checked = {"$or": [{"phrase": {"$exists": False}}, {"checks.id": {"$in": check_ids}}]}
        own = {claim.item.item_id: claim.held for claim in claims if claim.held}
        held_ids = [held.claim_id for held in own.values()]
        uses_up = {"$gte": [{"$size": "$claims"}, "$max_opens"]}
        has_files = any(claim.item.files for claim in claims)
        result = await self._collection.update_many(
            {
                **waiting(item_ids),
                "voided_claims": {"$ne": shared_id},
                **({"claims": {"$nin": held_ids}} if own else {}),
                "$and": [checked, *([_in_time(own)] if own else [])],
            },
            [
                *([{"$set": {"claiming": _own_claim(own)}}] if own else []),
                {
                    "$set": {
                        "opened_at": "$$NOW",
                        "claims": {
                            "$concatArrays": [
                                {"$ifNull": ["$claims", []]},
                                [{"$ifNull": ["$claiming.id", shared_id]} if own else shared_id],
                            ]
                        },
                    }
                },
                *([{"$set": {"holds": _holds_with_own()}}, {"$unset": "claiming"}] if own else []),
                *([{"$set": {"checks": without("$checks", "$$one.id", check_ids)}}] if check_ids else []),
                {
                    "$set": {
                        **erased_when(uses_up, ItemState.OPENED),
                        **(files_end_when(uses_up) if has_files else {}),
                    }
                },
            ],
        )
        if result.matched_count == len(claims) and all(claim.item.max_opens == 1 for claim in claims):
            return [_sole_opening(shared_id, claim) for claim in claims]
        query = {"_id": {"$in": item_ids}, "claims": {"$in": [shared_id, *held_ids]}}
        documents = await self._collection.find(query, {"envelope": 0}).to_list(None)
        winners = {document["_id"]: document for document in documents}
        return [self._outcome(shared_id, claim, winners.get(claim.item.item_id)) for claim in claims]

    def _outcome(self, shared_id: ObjectId, claim: Claim, document: Document | None) -> Won | None:
        """Return the outcome of a claim, given the item if one of the batch's claims has won it."""
        if document is None:
            return None
        if claim.held is None:
            return Won(shared_id, _opens_left(document, shared_id)) if shared_id in document["claims"] else None
        try:
            item = from_document(document)
        except Damaged:
            return None
        hold = item.hold_of(claim.held.claim_id)
        if hold is None or not item.is_held(hold, self._clock.now()):
            return None
        leaves_check = claim.check_id is not None and any(
            check["id"] == claim.check_id for check in document.get("checks", [])
        )
        return Won(hold.claim_id, hold.opens_left, hold.until, leaves_check)

    def _give_back_abandoned(self, claim: Claim, won: Won | None) -> None:
        if isinstance(won, Won) and not claim.can_be_repeated:
            self._give_back_soon(won.claim_id, claim)

    def _give_back_soon(self, claim_id: ObjectId | bytes, claim: Claim) -> None:
        self._rollbacks.start(partial(self._give_back, claim_id, claim), claim.item.expires_at)

    async def _give_back(self, claim_id: ObjectId | bytes, claim: Claim) -> None:
        with translate_mongo_errors():
            await self._collection.update_one(
                {
                    "_id": claim.item.item_id,
                    "state": {"$in": [ItemState.WAITING.value, ItemState.OPENED.value]},
                },
                _giving_back(claim_id, claim),
            )
        log.info("opening with unknown outcome rolled back")


def _sole_opening(shared_id: ObjectId, claim: Claim) -> Won:
    """Return the success of a claim on an item with a single opening."""
    if claim.held is None:
        return Won(shared_id, 0)
    return Won(claim.held.claim_id, 0, min(claim.held.until, claim.item.expires_at))


def _in_time(own: Mapping[bytes, HeldClaim]) -> Document:
    """Return the filter that refuses claims whose hold has ended: their readers could not ask again."""
    until = min(held.until for held in own.values())
    return {"$or": [{"_id": {"$nin": list(own)}}, {"$expr": {"$gt": [until, "$$NOW"]}}]}


def _own_claim(own: Mapping[bytes, HeldClaim]) -> Document:
    """Return the expression for the item's own claim; missing for an item without one."""
    claims = [{"id": held.claim_id, "until": held.until} for held in own.values()]
    place = {"$indexOfArray": [{"$literal": list(own)}, "$_id"]}
    # A negative index counts from the end of the array.
    return {"$cond": [{"$in": ["$_id", {"$literal": list(own)}]}, {"$arrayElemAt": [claims, place]}, "$$REMOVE"]}


def _holds_with_own() -> Document:
    hold = {
        "id": "$claiming.id",
        "until": {"$min": ["$claiming.until", "$expires_at"]},
        "opens_left": {"$subtract": ["$max_opens", {"$size": "$claims"}]},
    }
    holds = {"$concatArrays": [{"$ifNull": ["$holds", []]}, [hold]]}
    return {"$cond": [{"$gt": ["$claiming.id", None]}, holds, "$holds"]}


def _opens_left(document: Document, claim_id: ObjectId) -> int:
    """Return how many openings were left right after the claim; later claims do not count."""
    return int(document["max_opens"]) - 1 - int(document["claims"].index(claim_id))


def _giving_back(claim_id: ObjectId | bytes, claim: Claim) -> list[Document]:
    """Return the pipeline update that undoes a claim if it was executed and voids the id of its command in any case."""
    item = claim.item
    phrase = {"$literal": item.phrase.to_document()} if item.phrase else "$$REMOVE"
    is_burned = {"$gt": ["$burned_at", None]}

    def unless_burned(value: Any, otherwise: Any) -> Document:
        return {"$cond": [is_burned, otherwise, value]}

    own_id = claim.held.claim_id if claim.held else claim_id
    was_claimed: Document = {"$in": [own_id, {"$ifNull": ["$claims", []]}]}
    others = without("$claims", "$$one", [own_id])
    undone = {
        "state": (unless_burned(ItemState.WAITING.value, ItemState.BURNED.value), "$state"),
        "envelope": (unless_burned({"$literal": item.envelope}, "$$REMOVE"), "$envelope"),
        "phrase": (unless_burned(phrase, "$$REMOVE"), "$phrase"),
        "delete_at": (unless_burned("$expires_at", "$delete_at"), "$delete_at"),
        "opened_at": ({"$cond": [{"$eq": [{"$size": others}, 0]}, "$$REMOVE", "$opened_at"]}, "$opened_at"),
        "claims": (others, "$claims"),
    }
    if claim.held:
        undone["holds"] = (without("$holds", "$$one.id", [own_id]), "$holds")
    if item.files:
        have_files = {"$or": [{"$eq": ["$state", ItemState.WAITING.value]}, {"$gt": ["$files_until", "$$NOW"]}]}
        was_claimed = {"$and": [was_claimed, {"$or": [is_burned, have_files]}]}
        undone["files_until"] = (unless_burned("$$REMOVE", "$files_until"), "$files_until")
    return [
        {
            "$set": {
                **{name: {"$cond": [was_claimed, then, otherwise]} for name, (then, otherwise) in undone.items()},
                **voiding(claim_id),
                **({"checks": without("$checks", "$$one.id", [claim.check_id])} if claim.check_id else {}),
            }
        }
    ]
