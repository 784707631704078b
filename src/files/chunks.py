"""Chunks in MongoDB: the sealed content of uploads and of the files of items.

A chunk's id is the id of its upload and its start offset. A chunk expires by itself, so a crash leaves nothing behind.
"""

from collections.abc import AsyncGenerator, Sequence
from datetime import datetime
from typing import Any

from pymongo import IndexModel

from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from .chunk_sealing import OFFSET_BYTES

COLLECTION = "chunks"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("delete_at", name="delete_at", expireAfterSeconds=0),
        # Covers the query for keys that are in use, which would otherwise read the content of every file.
        IndexModel([("key_id", 1), ("delete_at", 1)], name="key_id"),
    ]
}
BATCH = 128
"""Chunks changed or deleted with one command. MongoDB rewrites their content, so a whole file may exceed a timeout."""
_LAST = b"\xff" * OFFSET_BYTES


def chunk_id(upload_id: bytes, start: int) -> bytes:
    """Return the id of a chunk."""
    return upload_id + start.to_bytes(OFFSET_BYTES, "big")


def start_of(document: Document) -> int:
    """Return the start offset of a chunk."""
    return int.from_bytes(document["_id"][-OFFSET_BYTES:], "big")


class ChunkStore:
    """The chunks of all uploads. Its methods raise the driver's errors in a session, and `Unavailable` otherwise."""

    def __init__(self, mongo: Mongo) -> None:
        self._chunks = mongo.collection(COLLECTION)

    async def insert(self, document: Document, session: Any) -> None:
        """Store a chunk in a transaction."""
        await self._chunks.insert_one(document, session=session)

    async def find(self, upload_id: bytes, position: int) -> Document | None:
        """Return the last chunk of an upload that begins at or before a position."""
        with translate_mongo_errors():
            document: Document | None = await self._chunks.find_one(
                {"_id": {"$gte": chunk_id(upload_id, 0), "$lte": chunk_id(upload_id, position)}}, sort=[("_id", -1)]
            )
        return document

    async def keep(self, upload_id: bytes, delete_at: datetime) -> int:
        """Set when the chunks of an upload are deleted, and return their number."""
        kept = 0
        async for ids in self._batches(upload_id):
            with translate_mongo_errors():
                result = await self._chunks.update_many({"_id": {"$in": ids}}, {"$set": {"delete_at": delete_at}})
            kept += result.matched_count
        return kept

    async def delete(self, upload_ids: Sequence[bytes]) -> None:
        """Delete all chunks of uploads."""
        for upload_id in upload_ids:
            async for ids in self._batches(upload_id):
                with translate_mongo_errors():
                    await self._chunks.delete_many({"_id": {"$in": ids}})

    async def truncate(self, upload_id: bytes, size: int, session: Any) -> bool:
        """Delete up to `BATCH` chunks of an upload that begin at or after ``size``, in a transaction.

        Returns whether none is left.
        """
        found = self._chunks.find(_from(upload_id, size), {"_id": 1}, session=session).limit(BATCH + 1)
        ids = [document["_id"] for document in await found.to_list(None)]
        if ids:
            await self._chunks.delete_many({"_id": {"$in": ids[:BATCH]}}, session=session)
        return len(ids) <= BATCH

    async def _batches(self, upload_id: bytes) -> AsyncGenerator[list[bytes], None]:
        """Yield the ids of an upload's chunks, in lists of up to `BATCH`."""
        start, ids = 0, [b""] * BATCH
        while len(ids) == BATCH:
            with translate_mongo_errors():
                found = self._chunks.find(_from(upload_id, start), {"_id": 1}).sort("_id", 1).limit(BATCH)
                documents = await found.to_list(None)
            ids = [document["_id"] for document in documents]
            if documents:
                yield ids
                start = start_of(documents[-1]) + 1


def _from(upload_id: bytes, start: int = 0) -> Document:
    return {"_id": {"$gte": chunk_id(upload_id, start), "$lte": upload_id + _LAST}}
