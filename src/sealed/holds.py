"""Held openings: for a while after an opening, its reader may ask for the text again, and download the files.

The reader makes a key of 32 random bytes and sends it with the opening. The opening is claimed under an id derived from
that key, so asking again never takes a second opening. Before the claim, a copy of the item is stored under this id,
with the envelope as it is: it opens only with the link. A copy is used only while the item lists the claim, has not
been burned since, and the reader has not confirmed the text. So a copy whose claim is lost is useless.

``received``, a burn, and a lost claim delete the copy; the TTL index deletes those that a crash leaves behind.

An item with files is always held. Its copy also has the manifest of the files, and downloads prolong the hold.
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

from ..core.clock import MILLISECOND
from ..core.crypto.sealing import Link
from ..core.database.group_commit import Batching
from ..core.database.mongo import DUPLICATE, Document, Indexes, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged, Unavailable
from .claims import HeldClaim
from .ended_files import EndedFiles
from .items import COLLECTION as ITEMS
from .items import WITHOUT_ENVELOPE, Item, ItemState, files_end_when, from_document, to_document
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
    manifest: bytes
    can_be_repeated: bool


class HoldStore:
    """The held openings in MongoDB.

    ``duration`` is 0 if openings of items without files are not held, ``file_duration`` is that of items with files.
    """

    def __init__(
        self,
        mongo: Mongo,
        batching: Batching,
        *,
        duration: timedelta,
        file_duration: timedelta,
        ended_files: EndedFiles,
        damaged: Counter = NOTHING,
    ) -> None:
        self._copies = mongo.collection(COLLECTION)
        self._items = mongo.collection(ITEMS)
        self._clock = mongo.clock
        self._duration = duration
        self._file_duration = file_duration
        self._ended_files = ended_files
        self._damage = DamageReporter(damaged)
        self._inserts = batching("hold_items", self._insert_each)
        self._deletions = batching("release_items", self._delete_each)
        self._rollbacks = Rollbacks(mongo.clock)

    def are_on_for(self, item: Item) -> bool:
        """Tell whether the openings of an item are held."""
        return bool(item.files) or self._duration > timedelta(0)

    async def keep(
        self, claim_id: bytes, item: Item, manifest: bytes = b"", *, can_be_repeated: bool = True
    ) -> HeldClaim:
        """Store a copy for a claim that is about to be made, and return that claim.

        The copy outlives the hold, also if an earlier request has stored it.
        """
        return await self._inserts.submit(_Copy(claim_id, item, manifest, can_be_repeated))

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

    async def manifest(self, claim_id: bytes) -> bytes | None:
        """Return the manifest of a copy, or None if the copy is gone. Raises `Damaged`."""
        with translate_mongo_errors():
            copy = await self._copies.find_one({"_id": claim_id}, {"manifest": 1})
        if copy is None:
            return None
        manifest = copy.get("manifest")
        if not isinstance(manifest, bytes):
            raise self._damage.changed(claim_id)
        return manifest

    async def prolong(self, item_id: bytes, claim_id: bytes) -> bool:
        """Let a hold of an item with files last for its full duration from now, at most until the item expires.

        Returns False if the opening is not held any more.
        """
        until = {"$min": ["$expires_at", {"$add": ["$$NOW", self._file_duration // MILLISECOND]}]}
        longer = {"$mergeObjects": ["$$hold", {"until": {"$max": ["$$hold.until", until]}}]}
        mine = {"$eq": ["$$hold.id", claim_id]}
        holds = {"$map": {"input": "$holds", "as": "hold", "in": {"$cond": [mine, longer, "$$hold"]}}}
        is_held = {
            "$and": [mine, {"$gt": ["$$hold.until", "$$NOW"]}, {"$not": [{"$gt": ["$$hold.received_at", None]}]}]
        }
        held = {"$filter": {"input": "$holds", "as": "hold", "cond": is_held}}
        with translate_mongo_errors():
            document = await self._items.find_one_and_update(
                {
                    "_id": item_id,
                    "holds.id": claim_id,
                    "burned_at": {"$exists": False},
                    "$expr": {"$ne": [held, []]},
                },
                [
                    {"$set": {"holds": holds}},
                    {"$set": files_end_when({"$ne": ["$state", ItemState.WAITING.value]})},
                ],
                {"holds": 1},
                return_document=ReturnDocument.AFTER,
            )
            if document is None:
                return False
            end = max(hold["until"] for hold in document["holds"] if hold["id"] == claim_id)
            await self._copies.update_one({"_id": claim_id}, {"$max": {"expires_at": end}})
        return True

    def release_soon(self, claim_id: bytes) -> None:
        """Delete the copy of a claim that is given back, in the background."""
        self._delete_soon({"_id": claim_id})

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
                [{"$set": {"holds": holds}}, {"$set": files_end_when({"$ne": ["$state", ItemState.WAITING.value]})}],
                WITHOUT_ENVELOPE,
                return_document=ReturnDocument.AFTER,
            )
        if document is None:
            return False
        if self._has_ended(document):
            await self.release_item(item_id)
            if "files" in document:
                await self._ended_files.erase(item_id)
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
        now = self._clock.now()
        outcomes: list[HeldClaim | Exception] = []
        documents = []
        for copy in copies:
            until = now + (self._file_duration if copy.item.files else self._duration)
            outcomes.append(HeldClaim(copy.claim_id, until, copy.can_be_repeated))
            documents.append(
                {
                    "_id": copy.claim_id,
                    "key_id": copy.item.key_id,
                    "expires_at": min(until, copy.item.expires_at),
                    "item": to_document(copy.item),
                    **({"manifest": copy.manifest} if copy.manifest else {}),
                }
            )
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
        longest = max(self._duration, self._file_duration)
        self._rollbacks.start(partial(self._delete, query), self._clock.now() + longest)
