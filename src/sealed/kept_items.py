"""Kept items in MongoDB: the records of the items whose receipts a user keeps with the account.

The id of a record is the id of its item, a hash of the link key. So a record opens nothing, and with the server's keys
it shows no more than the item's receipt. Owner, kind and times are sealed, so write access to the database is not
enough to show or burn the item of another user.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pymongo import DESCENDING, IndexModel

from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter
from .items import TOMBSTONE_LIFE, Item

COLLECTION = "kept_items"
KIND = "kept item"
BY_USER = "user_id"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel([("user_id", 1), ("created_at", DESCENDING), ("_id", DESCENDING)], name=BY_USER),
        # TTL index for cleanup; no query relies on it.
        IndexModel("delete_at", name="delete_at", expireAfterSeconds=0),
    ]
}

log = structlog.get_logger(__name__)


class KeptItemContent(Content):
    """The sealed part of a record."""

    user_id: bytes
    kind: str
    created_at: datetime
    expires_at: datetime


RESEALABLE = Resealable(COLLECTION, KIND, KeptItemContent)


@dataclass(frozen=True)
class KeptItem:
    """A record of an item."""

    item_id: bytes
    content: KeptItemContent


@dataclass(frozen=True)
class Position:
    """A place in a user's list, which is sorted by time and id: after the item with this id."""

    created_at: datetime
    item_id: bytes


class KeptItemStore:
    """All queries on kept items; ``damaged`` counts the records that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock: DatabaseClock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._damaged = damaged

    async def add(self, session: Any, user_id: bytes, item: Item) -> None:
        """Store the record of a new item, in the caller's transaction."""
        content = KeptItemContent(
            user_id=user_id, kind=item.kind, created_at=item.created_at, expires_at=item.expires_at
        )
        document = {
            "_id": item.item_id,
            "user_id": user_id,
            "created_at": item.created_at,
            "delete_at": item.expires_at + TOMBSTONE_LIFE,
            **self._sealer.seal(content, item.item_id),
        }
        await self._collection.insert_one(document, session=session)

    async def page(self, user_id: bytes, before: Position | None, limit: int) -> tuple[list[KeptItem], Position | None]:
        """Return up to ``limit`` of a user's records after a position, newest first.

        The second value is the position of the last one if more follow. A record that cannot be read is logged and left
        out.
        """
        with translate_mongo_errors():
            found = self._collection.find(older_than(user_id, before, self._clock.now())).hint(BY_USER)
            found = found.sort([("created_at", DESCENDING), ("_id", DESCENDING)]).limit(limit + 1)
            documents = await found.to_list(None)
        kept = (self._read(document, user_id) for document in documents[:limit])
        last = (
            Position(documents[limit - 1]["created_at"], documents[limit - 1]["_id"])
            if len(documents) > limit
            else None
        )
        return [one for one in kept if one], last

    async def find(self, user_id: bytes, item_id: bytes) -> KeptItem | None:
        """Return a user's record of an item; None if there is none, or if it cannot be read."""
        with translate_mongo_errors():
            document = await self._collection.find_one({"_id": item_id, "user_id": user_id, **_live(self._clock.now())})
        return self._read(document, user_id) if document else None

    async def remove_all(self, user_id: bytes) -> None:
        """Delete all records of a user; the items stay."""
        with translate_mongo_errors():
            await self._collection.delete_many({"user_id": user_id})

    def _read(self, document: Document, user_id: bytes) -> KeptItem | None:
        try:
            content = self._sealer.open(KeptItemContent, document)
        except Unsealable:
            content = None
        if content is None or content.user_id != user_id:
            self._damaged.inc()
            log.error("kept item cannot be decrypted: modified in the database, or its key is not in the key ring")
            return None
        return KeptItem(document["_id"], content)


def older_than(user_id: bytes, before: Position | None, now: datetime) -> Document:
    """Return the filter for a page of a user's list."""
    query = {"user_id": user_id, **_live(now)}
    if before:
        # The bound on the time is for the index; only items of the same millisecond are skipped one by one.
        query["created_at"] = {"$lte": before.created_at}
        query["$or"] = [{"created_at": {"$lt": before.created_at}}, {"_id": {"$lt": before.item_id}}]
    return query


def _live(now: datetime) -> Document:
    return {"delete_at": {"$gt": now}}
