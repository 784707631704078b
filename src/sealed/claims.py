"""Opening exactly once.

A claim takes one opening out of an item and, with the last one, erases the envelope, in one command that a majority
acknowledges before any plaintext is sent. Claims of different items share a command, stamped with a fresh claim id;
where the count of changed documents falls short of the count of claims, the winners are read back by their stamp.

A command whose answer is lost may or may not have been carried out, and may yet be. Its requesters are told to come
back, so its plaintexts never leave: the claims are given back as soon as the database answers again. Giving back takes
the stamp off where it stands and voids it on the item, so that a command that arrives late finds itself refused. The
same goes for a claim that was won for a requester who had been told to come back meanwhile.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from bson import ObjectId

from ..core.batching import Batching
from ..core.mongo import Document, Mongo, answering
from ..errors import Unavailable
from .items import COLLECTION, Item, State, erased_when, utc_now, waiting

VOIDED_KEPT = 100
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

log = structlog.get_logger(__name__)


class Won(NamedTuple):
    """A claim that succeeded."""

    claim_id: ObjectId
    opens_left: int


class ClaimStore:
    """The openings of items in MongoDB."""

    def __init__(self, mongo: Mongo, batching: Batching) -> None:
        self._collection = mongo.collection(COLLECTION)
        # One claim of an item in a batch: the command takes one opening from each document that it matches.
        self._claims = batching(self._claim_each, key=lambda item: item.item_id, abandoned=self._give_back_abandoned)
        self._returns: set[asyncio.Task[None]] = set()

    async def claim(self, item: Item) -> int | None:
        """Take one opening and return how many are left; None when another reader has had the last one.

        ``item`` must come with its envelope, to be put back should the outcome stay unknown. Raises `Unavailable` in
        that case.
        """
        won = await self._claims.submit(item)
        return won.opens_left if won else None

    async def close(self) -> None:
        """Wait for the commands in flight and for every claim to be given back."""
        await self._claims.close()
        while self._returns:
            await asyncio.wait(self._returns)

    async def _claim_each(self, items: Sequence[Item]) -> Sequence[Won | None]:
        claim_id = ObjectId()
        try:
            with answering():
                return await self._claim_all(claim_id, items)
        except Unavailable:
            for item in items:
                self._give_back_soon(claim_id, item)
            raise

    async def _claim_all(self, claim_id: ObjectId, items: Sequence[Item]) -> list[Won | None]:
        now = utc_now()
        item_ids = [item.item_id for item in items]
        result = await self._collection.update_many(
            {**waiting(item_ids, now), "voided_claims": {"$ne": claim_id}},
            [
                {
                    "$set": {
                        "opened_at": now,
                        "claims": {"$concatArrays": [{"$ifNull": ["$claims", []]}, [claim_id]]},
                    }
                },
                {"$set": erased_when({"$gte": [{"$size": "$claims"}, "$max_opens"]}, State.OPENED)},
            ],
        )
        if result.matched_count == len(items) and all(item.max_opens == 1 for item in items):
            return [Won(claim_id, 0)] * len(items)
        query = {"_id": {"$in": item_ids}, "claims": claim_id}
        documents = await self._collection.find(query, {"claims": 1, "max_opens": 1}).to_list(None)
        winners = {document["_id"]: Won(claim_id, _opens_left(document, claim_id)) for document in documents}
        return [winners.get(item_id) for item_id in item_ids]

    def _give_back_abandoned(self, item: Item, won: Won | None) -> None:
        if won:
            self._give_back_soon(won.claim_id, item)

    def _give_back_soon(self, claim_id: ObjectId, item: Item) -> None:
        task = asyncio.create_task(self._give_back(claim_id, item))
        self._returns.add(task)
        task.add_done_callback(self._returns.discard)

    async def _give_back(self, claim_id: ObjectId, item: Item) -> None:
        pause = FIRST_PAUSE
        while item.expires_at > utc_now():
            try:
                with answering():
                    await self._collection.update_one(
                        {"_id": item.item_id, "state": {"$in": [State.WAITING.value, State.OPENED.value]}},
                        _giving_back(claim_id, item),
                    )
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                log.info("an opening without a known outcome was given back")
                return


def _opens_left(document: Document, claim_id: ObjectId) -> int:
    """Return how many openings were left right after the claim, whatever has been claimed since."""
    return int(document["max_opens"]) - 1 - int(document["claims"].index(claim_id))


def _giving_back(claim_id: ObjectId, item: Item) -> list[Document]:
    """Return the pipeline update that undoes a claim where it was carried out and voids it where it was not yet."""
    was_claimed = {"$in": [claim_id, {"$ifNull": ["$claims", []]}]}
    others = {"$filter": {"input": "$claims", "cond": {"$ne": ["$$this", claim_id]}}}
    undone = {
        "state": (State.WAITING.value, "$state"),
        "envelope": ({"$literal": item.envelope}, "$envelope"),
        "phrase": ({"$literal": item.phrase.to_document()} if item.phrase else "$$REMOVE", "$phrase"),
        "delete_at": ("$expires_at", "$delete_at"),
        "opened_at": ({"$cond": [{"$eq": [{"$size": others}, 0]}, "$$REMOVE", "$opened_at"]}, "$opened_at"),
        "claims": (others, "$claims"),
    }
    voided = {"$concatArrays": [{"$ifNull": ["$voided_claims", []]}, [claim_id]]}
    return [
        {
            "$set": {
                **{name: {"$cond": [was_claimed, then, otherwise]} for name, (then, otherwise) in undone.items()},
                "voided_claims": {"$slice": [voided, -VOIDED_KEPT]},
            }
        }
    ]
