"""Held openings: for a while after an opening, its reader may ask for the text again.

The reader makes a key of 32 random bytes and sends it with the opening. The opening is claimed under an id derived from
that key, so asking again never takes a second opening. Before the claim, a copy of the item is stored under this id,
with the envelope as it is: it opens only with the link. A copy is used only while the item lists the claim, has not
been burned since, and the reader has not confirmed the text. So a copy whose claim is lost is useless.

``received``, a burn, and a lost claim delete the copy; the TTL index deletes those that a crash leaves behind.
"""

import hmac
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import structlog
from pymongo import IndexModel, ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError

from ..core.crypto.sealing import Link
from ..core.database.group_commit import Batching
from ..core.database.mongo import DUPLICATE, Document, Indexes, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged, Unavailable
from .claims import HeldClaim
from .items import COLLECTION as ITEMS
from .items import WITHOUT_ENVELOPE, Item, ItemState, from_document, to_document
from .store import DamageReporter, Rollbacks

COLLECTION = "held"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
        # To delete all copies of an item.
        IndexModel("item._id", name="item_id"),
    ]
}
CLAIM_ID_BYTES = 16

log = structlog.get_logger(__name__)


def derive_claim_id(link: Link, reader_key: bytes) -> bytes:
    """Return the id under which a reader claims an opening; only the link and the reader's key together give it."""
    return hmac.digest(link.key, b"sealpost/v1/reader" + reader_key, sha256)[:CLAIM_ID_BYTES]


class _Copy(NamedTuple):
    claim_id: bytes
    item: Item


class HoldStore:
    """The held openings in MongoDB; ``duration`` is 0 if they are switched off."""

    def __init__(self, mongo: Mongo, batching: Batching, duration: timedelta, damaged: Counter = NOTHING) -> None:
        self._copies = mongo.collection(COLLECTION)
        self._items = mongo.collection(ITEMS)
        self._clock = mongo.clock
        self._duration = duration
        self._damage = DamageReporter(damaged)
        self._inserts = batching("hold_items", self._insert_each)
        self._deletions = batching("release_items", self._delete_each)
        self._rollbacks = Rollbacks(mongo.clock)

    @property
    def are_on(self) -> bool:
        """Whether openings are held."""
        return self._duration > timedelta(0)

    async def keep(self, claim_id: bytes, item: Item) -> HeldClaim:
        """Store a copy for a claim that is about to be made, and return that claim.

        The copy outlives the hold, also if an earlier request has stored it.
        """
        return await self._inserts.submit(_Copy(claim_id, item))

    async def find(self, claim_id: bytes) -> Item | None:
        """Return the item of a copy, with its envelope. Raises `Damaged`."""
        with translate_mongo_errors():
            copy = await self._copies.find_one({"_id": claim_id})
        if copy is None:
            return None
        try:
            return from_document(copy["item"])
        except (Damaged, KeyError, TypeError):
            raise self._damage.changed(claim_id) from None

    async def release(self, claim_id: bytes) -> None:
        """Delete the copy of a claim that was lost or whose hold has ended."""
        try:
            await self._deletions.submit(claim_id)
        except Unavailable:
            self._delete_soon({"_id": claim_id})

    async def release_item(self, item_id: bytes) -> None:
        """Delete all copies of an item that has no hold left."""
        query = {"item._id": item_id}
        try:
            await self._delete(query)
        except BaseException as error:
            self._delete_soon(query)
            if not isinstance(error, Unavailable):
                raise

    async def receive(self, item_id: bytes, claim_id: bytes) -> bool:
        """Record that a reader has the text, and delete the copy; return whether the reader had opened the item.

        May be repeated; the first time counts.
        """
        received = {"$mergeObjects": ["$$hold", {"received_at": {"$ifNull": ["$$hold.received_at", "$$NOW"]}}]}
        mine = {"$eq": ["$$hold.id", claim_id]}
        holds = {"$map": {"input": "$holds", "as": "hold", "in": {"$cond": [mine, received, "$$hold"]}}}
        with translate_mongo_errors():
            document = await self._items.find_one_and_update(
                {"_id": item_id, "holds.id": claim_id, "burned_at": {"$exists": False}},
                [{"$set": {"holds": holds}}],
                WITHOUT_ENVELOPE,
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            return False
        if self._has_ended(document):
            await self.release_item(item_id)
        else:
            await self.release(claim_id)
        return True

    async def close(self) -> None:
        """Wait for the commands in flight and for every deletion."""
        for committer in (self._inserts, self._deletions):
            await committer.close()
        await self._rollbacks.close()

    def _has_ended(self, document: Document) -> bool:
        """Tell whether an item can neither be opened nor asked for again."""
        try:
            item, now = from_document(document), self._clock.now()
        except Damaged:
            return False
        return item.state is not ItemState.WAITING and not any(item.is_held(hold, now) for hold in item.holds)

    async def _insert_each(self, copies: Sequence[_Copy]) -> list[HeldClaim | Exception]:
        until = self._clock.now() + self._duration
        documents = [
            {
                "_id": copy.claim_id,
                "key_id": copy.item.key_id,
                "expires_at": min(until, copy.item.expires_at),
                "item": to_document(copy.item),
            }
            for copy in copies
        ]
        outcomes: list[HeldClaim | Exception] = [HeldClaim(copy.claim_id, until) for copy in copies]
        with translate_mongo_errors():
            try:
                await self._copies.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if error.details.get("writeConcernErrors"):
                    raise
                repeated = []
                for failure in error.details["writeErrors"]:
                    if failure["code"] == DUPLICATE:
                        repeated.append(documents[failure["index"]])
                    else:
                        log.error("MongoDB rejected a document", code=failure.get("code"))
                        outcomes[failure["index"]] = Unavailable()
                await self._prolong(repeated)
        return outcomes

    async def _prolong(self, documents: Sequence[Document]) -> None:
        """Let the copies of earlier requests live as long as new ones; they may have expired meanwhile."""
        updates = []
        for document in documents:
            expires_at = document.pop("expires_at")
            change = {"$max": {"expires_at": expires_at}, "$setOnInsert": document}
            updates.append(UpdateOne({"_id": document["_id"]}, change, upsert=True))
        if updates:
            await self._copies.bulk_write(updates, ordered=False)

    async def _delete_each(self, claim_ids: Sequence[bytes]) -> list[None]:
        await self._delete({"_id": {"$in": list(claim_ids)}})
        return [None] * len(claim_ids)

    async def _delete(self, query: Document) -> None:
        with translate_mongo_errors():
            await self._copies.delete_many(query)

    def _delete_soon(self, query: Any) -> None:
        self._rollbacks.start(partial(self._delete, query), self._clock.now() + self._duration)
