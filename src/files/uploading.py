"""Receives uploads: seals the content chunk by chunk while it arrives, within the limits of the service."""

import secrets
from contextlib import aclosing, suppress

from ..api.streamed_bodies import StreamedBody
from ..core.crypto.blind_index import BlindIndex
from ..core.crypto.keys import KEY_BYTES, KeyRing
from ..core.database.mongo import Document
from ..core.metrics import Metrics
from ..core.stored_files import PAYER, TransferSlots
from ..errors import Problem, TooLarge
from .chunk_sealing import CHUNK_BYTES, ChunkSealer, derive_upload_id
from .chunks import chunk_id
from .headers import Checksum
from .uploads import Upload, UploadStore

UPLOADS_AT_ONCE = 32
"""Maximum number of requests with content at once in a process; each needs a few chunks of memory."""
LEAST_CHARGE = 2048
"""Minimum number of bytes that a document counts against the caller's byte budget."""
SEGMENT_BYTES, SEGMENT_OVERHEAD = 64 * 1024, 16
"""A client that encrypts files adds that many bytes to each segment."""


def largest_upload(file_max: int) -> int:
    """Return the maximum size of an upload in bytes: the largest file, encrypted by the client."""
    return file_max + SEGMENT_OVERHEAD * -(-file_max // SEGMENT_BYTES)


class UploadService:
    """Creates, continues and deletes uploads. The keys are 32 random bytes, which the server does not store."""

    def __init__(self, ring: KeyRing, uploads: UploadStore, metrics: Metrics, *, file_max: int) -> None:
        self._ring = ring
        self._index = BlindIndex(ring, PAYER)
        self._uploads = uploads
        self._events = metrics.uploads
        self._bytes = metrics.upload_bytes
        self._slots = TransferSlots("uploads")
        self.largest = largest_upload(file_max)

    async def create(self, size: int, user_id: bytes | None) -> tuple[bytes, Upload]:
        """Return the key of a new upload, and the upload, whose content the user pays for. Raises `TooLarge`."""
        if size > self.largest:
            raise TooLarge(limit=self.largest)
        upload_key = secrets.token_bytes(KEY_BYTES)
        payer = self._index.of(user_id.hex())[0] if user_id else None
        upload = await self._uploads.create(derive_upload_id(upload_key), size, payer)
        self._count("created")
        if upload.is_complete:
            self._count("completed")
        return upload_key, upload

    async def find(self, upload_key: bytes) -> Upload:
        """Return an upload. Raises `UploadNotFound`."""
        return await self._uploads.find(derive_upload_id(upload_key))

    async def delete(self, upload_key: bytes) -> None:
        """Delete an upload with its content. Raises `UploadNotFound`."""
        await self._uploads.delete(derive_upload_id(upload_key))
        self._count("deleted")

    async def append(self, upload_key: bytes, offset: int, body: StreamedBody, checksum: Checksum | None) -> Upload:
        """Store a body at the upload's offset, and return the upload.

        Content that was stored before an error stays, except with a checksum: then all or nothing of the body counts.
        Raises `UploadNotFound`, `OffsetConflict`, `TooLarge`, `ChecksumMismatch`, `StorageFull`, `LimitReached`,
        `Unavailable`, and the errors of reading the body.
        """
        with self._slots.take(UPLOADS_AT_ONCE):
            upload = await self._uploads.begin(derive_upload_id(upload_key), offset)
            body.payer, was_complete = upload.payer, upload.is_complete
            if (body.length or 0) > upload.size - offset:
                raise TooLarge(limit=upload.size - offset)
            sealer = ChunkSealer(self._ring, upload_key)
            if checksum is None:
                upload = await self._store(sealer, upload, body)
            else:
                upload = await self._store_verified(sealer, upload, body, checksum)
        if upload.is_complete and not was_complete:
            self._count("completed")
        return upload

    async def _store(self, sealer: ChunkSealer, upload: Upload, body: StreamedBody) -> Upload:
        async with aclosing(body.parts(CHUNK_BYTES)) as parts:
            async for part in parts:
                chunk = _sealed(sealer, upload, upload.offset, part)
                async with body.storing(max(len(part), LEAST_CHARGE)):
                    upload = await self._uploads.advance(upload, 1, upload.offset + len(part), chunk)
                self._bytes.inc(len(part))
        return upload

    async def _store_verified(
        self, sealer: ChunkSealer, upload: Upload, body: StreamedBody, checksum: Checksum
    ) -> Upload:
        chunks, end = 0, upload.offset
        try:
            async with aclosing(body.parts(CHUNK_BYTES)) as parts:
                async for part in parts:
                    chunk = _sealed(sealer, upload, end, part)
                    checksum.update(part)
                    async with body.storing(max(len(part), LEAST_CHARGE)):
                        upload = await self._uploads.add(upload, chunk)
                    chunks, end = chunks + 1, end + len(part)
            checksum.verify()
        except Exception:
            # If this fails, the next request that writes deletes the chunks, at the latest their expiry.
            with suppress(Problem):
                await self._uploads.abandon(upload)
            raise
        self._bytes.inc(end - upload.offset)
        return await self._uploads.advance(upload, chunks, end)

    def _count(self, event: str) -> None:
        self._events.child(event).inc()


def _sealed(sealer: ChunkSealer, upload: Upload, start: int, content: bytes) -> Document:
    """Return the document of a chunk. Raises `TooLarge` if the content exceeds the upload."""
    if start + len(content) > upload.size:
        raise TooLarge(limit=upload.size - upload.offset)
    key_id, data = sealer.seal(content, start=start, size=upload.size)
    return {
        "_id": chunk_id(upload.upload_id, start),
        "key_id": key_id,
        "data": data,
        "delete_at": upload.delete_at,
    }
