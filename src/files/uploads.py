"""Uploads in MongoDB: their sizes and offsets, and which request writes.

A request that writes first becomes the upload's writer: it sets ``writer`` to a random value, and each chunk it adds
changes the value again, in one transaction with the insertion of the chunk. So an earlier request that still writes
elsewhere fails at its next chunk, and an upload never has a chunk twice or a gap.

The offset of a request with a checksum moves only at its end. Chunks beyond the offset are deleted by the next writer.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from pymongo import IndexModel, ReturnDocument

from ..core.clock import MILLISECOND
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..core.stored_files import RESERVATION
from ..errors import Damaged, Problem
from .chunks import ChunkStore
from .problems import OffsetConflict, UploadNotFound

COLLECTION = "uploads"
INDEXES: Indexes = {COLLECTION: [IndexModel("delete_at", name="delete_at", expireAfterSeconds=0)]}
LIFE = timedelta(days=1)
"""Time after which an upload expires unless an item uses it."""
WRITER_BYTES = 16
_IS_LIVE: Document = {"$gt": ["$delete_at", "$$NOW"]}
UNEXPIRED: Document = {"$expr": _IS_LIVE}

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Upload:
    """An upload; ``size`` and ``offset`` are in bytes, ``chunks`` is the number of chunks before the offset.

    ``payer`` is the blind index of the account whose byte budget pays for the content; None for the client's network.
    """

    upload_id: bytes
    size: int
    offset: int
    chunks: int
    delete_at: datetime
    writer: bytes
    payer: bytes | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all bytes have arrived."""
        return self.offset == self.size


class UploadStore:
    """The uploads that no item uses yet. Each method raises `Unavailable` if the outcome is unknown.

    Each that returns an upload raises `Damaged` if its document was changed in the database; ``damaged`` counts these.
    """

    def __init__(self, mongo: Mongo, chunks: ChunkStore, damaged: Counter = NOTHING) -> None:
        self._mongo = mongo
        self._uploads = mongo.collection(COLLECTION)
        self._chunks = chunks
        self._damaged = damaged

    async def create(self, upload_id: bytes, size: int, payer: bytes | None = None) -> Upload:
        """Store a new upload without content."""
        now = self._mongo.clock.now()
        upload = Upload(upload_id, size, 0, 0, now + LIFE, b"", payer)
        with translate_mongo_errors():
            await self._uploads.insert_one(
                {
                    "_id": upload_id,
                    "size": size,
                    "offset": 0,
                    "chunks": 0,
                    "writer": upload.writer,
                    "created_at": now,
                    "delete_at": upload.delete_at,
                    **({"payer": payer} if payer else {}),
                }
            )
        return upload

    async def find(self, upload_id: bytes) -> Upload:
        """Return an upload. Raises `UploadNotFound`."""
        with translate_mongo_errors():
            document = await self._uploads.find_one({"_id": upload_id, **UNEXPIRED})
        if document is None:
            raise UploadNotFound
        return self._read(document)

    async def begin(self, upload_id: bytes, offset: int) -> Upload:
        """Make the caller the writer of an upload, and delete chunks beyond its offset.

        Raises `UploadNotFound`, and `OffsetConflict` if the upload has another offset.
        """
        return await self._become_writer(upload_id, {"offset": offset})

    async def abandon(self, upload: Upload) -> None:
        """Delete chunks beyond the offset, if the caller is still the writer. Raises like `begin`."""
        await self._become_writer(upload.upload_id, {"writer": upload.writer})

    async def add(self, upload: Upload, chunk: Document) -> Upload:
        """Add a chunk without moving the offset, and return the upload with its new writer.

        Raises `UploadNotFound` if the upload has expired, and `OffsetConflict` if there is another writer.
        """
        return await self._write(upload, upload, chunk)

    async def advance(self, upload: Upload, chunks: int, offset: int, chunk: Document | None = None) -> Upload:
        """Move the offset past ``chunks`` chunks, one of which may be added now. Raises like `add`."""
        moved = replace(upload, chunks=upload.chunks + chunks, offset=offset)
        return await self._write(upload, moved, chunk)

    async def delete(self, upload_id: bytes) -> None:
        """Delete an upload with its content. Raises `UploadNotFound`."""
        with translate_mongo_errors():
            result = await self._uploads.delete_one({"_id": upload_id, **UNEXPIRED})
        if not result.deleted_count:
            raise UploadNotFound
        await self._chunks.delete([upload_id])

    async def reserve(self, upload_id: bytes, item_id: bytes) -> Upload | None:
        """Reserve a complete upload for an item; None if another item has reserved it, or it is not complete.

        The upload then lives at least as long as the reservation.
        """
        until = {"$add": ["$$NOW", RESERVATION // MILLISECOND]}
        is_free = {"$not": [{"$gt": ["$reserved_until", "$$NOW"]}]}
        is_mine = {"$eq": ["$reserved_by", item_id]}
        is_complete = {"$eq": ["$offset", "$size"]}
        change = {"reserved_by": item_id, "reserved_until": until, "delete_at": {"$max": ["$delete_at", until]}}
        with translate_mongo_errors():
            document = await self._uploads.find_one_and_update(
                {"_id": upload_id, "$expr": {"$and": [_IS_LIVE, is_complete, {"$or": [is_free, is_mine]}]}},
                [{"$set": change}],
                return_document=ReturnDocument.AFTER,
            )
        return None if document is None else self._read(document)

    async def release(self, upload_ids: list[bytes], item_id: bytes) -> None:
        """End the reservations of an item."""
        with translate_mongo_errors():
            await self._uploads.update_many(
                {"_id": {"$in": upload_ids}, "reserved_by": item_id},
                {"$unset": {"reserved_by": 1, "reserved_until": 1}},
            )

    async def take(self, upload_ids: list[bytes], item_id: bytes, session: Any) -> bool:
        """Delete uploads that are reserved for an item, in a transaction; return whether all were.

        Raises the driver's errors.
        """
        result = await self._uploads.delete_many({"_id": {"$in": upload_ids}, "reserved_by": item_id}, session=session)
        return bool(result.deleted_count == len(upload_ids))

    async def _become_writer(self, upload_id: bytes, condition: Document) -> Upload:
        while True:
            upload, is_clean = await self._truncate_as_writer(upload_id, condition)
            if upload is None:
                raise await self._refusal(upload_id)
            if is_clean:
                return upload
            condition = {"writer": upload.writer}

    async def _truncate_as_writer(self, upload_id: bytes, condition: Document) -> tuple[Upload | None, bool]:
        """Return the upload if the condition holds, and whether no chunk is left beyond its offset."""
        writer = secrets.token_bytes(WRITER_BYTES)

        async def work(session: Any) -> tuple[Upload | None, bool]:
            document = await self._uploads.find_one_and_update(
                {"_id": upload_id, **condition, **UNEXPIRED},
                {"$set": {"writer": writer}},
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            # In one transaction, or it could delete the chunks of a request that began in between.
            if document is None:
                return None, False
            upload = self._read(document)
            return upload, await self._chunks.truncate(upload_id, upload.offset, session)

        return await self._mongo.transact(work)

    async def _write(self, upload: Upload, changed: Upload, chunk: Document | None) -> Upload:
        changed = replace(changed, writer=secrets.token_bytes(WRITER_BYTES))

        async def work(session: Any) -> bool:
            result = await self._uploads.update_one(
                {"_id": upload.upload_id, "writer": upload.writer, **UNEXPIRED},
                {"$set": {"writer": changed.writer, "offset": changed.offset, "chunks": changed.chunks}},
                session=session,
            )
            if result.matched_count and chunk is not None:
                await self._chunks.insert(chunk, session)
            return bool(result.matched_count)

        if not await self._mongo.transact(work):
            raise await self._refusal(upload.upload_id)
        return changed

    async def _refusal(self, upload_id: bytes) -> Problem:
        """Return why an upload cannot be written to."""
        try:
            upload = await self.find(upload_id)
        except UploadNotFound as error:
            return error
        return OffsetConflict(headers={"Upload-Offset": str(upload.offset)})

    def _read(self, document: Document) -> Upload:
        try:
            return _from_document(document)
        except (KeyError, TypeError, ValueError):
            self._damaged.inc()
            log.error("upload cannot be read: modified in the database", upload_id=document["_id"].hex())
            raise Damaged from None


def _from_document(document: Document) -> Upload:
    """Read a document. Raises `KeyError`, `TypeError` and `ValueError`."""
    size, offset, chunks = (_number(document[name]) for name in ("size", "offset", "chunks"))
    delete_at, writer, payer = document["delete_at"], document["writer"], document.get("payer")
    if type(delete_at) is not datetime or type(writer) is not bytes or type(payer) not in (bytes, type(None)):
        raise TypeError
    # No chunk is empty.
    if not 0 <= chunks <= offset <= size:
        raise ValueError
    return Upload(document["_id"], size, offset, chunks, delete_at, writer, payer)


def _number(value: Any) -> int:
    # The driver returns a number over 32 bits as a subclass of int.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return int(value)
