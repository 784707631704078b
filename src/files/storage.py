"""The files of items: complete uploads that an item uses."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import structlog

from ..core.crypto.keys import KeyRing
from ..core.crypto.sealing import Unsealable
from ..core.database.mongo import Document
from ..core.metrics import NOTHING, Counter
from ..core.stored_files import StoredFile, Unusable, UnusableUpload
from ..errors import Damaged, Unavailable
from .chunk_sealing import ChunkSealer, derive_upload_id
from .chunks import ChunkStore, start_of
from .problems import UploadNotFound
from .uploads import UploadStore

log = structlog.get_logger(__name__)


class MongoFileStorage:
    """Implements `FileStorage`. ``damaged`` counts chunks that do not open."""

    def __init__(
        self,
        ring: KeyRing,
        uploads: UploadStore,
        chunks: ChunkStore,
        *,
        damaged: Counter = NOTHING,
    ) -> None:
        self._ring = ring
        self._uploads = uploads
        self._chunks = chunks
        self._damaged = damaged

    async def reserve(self, upload_keys: Sequence[bytes], item_id: bytes, delete_at: datetime) -> list[StoredFile]:
        """Reserve complete uploads for an item for 60 seconds, and keep their content until ``delete_at``.

        Raises `UnusableUpload`, and no upload is reserved then; and `Unavailable`.
        """
        try:
            return await self._reserve(upload_keys, item_id, delete_at)
        except UnusableUpload:
            # If this fails, the reservations end by themselves.
            with suppress(Unavailable):
                await self._uploads.release([derive_upload_id(key) for key in upload_keys], item_id)
            raise

    async def take(self, session: Any, item_id: bytes, files: Sequence[StoredFile]) -> None:
        """Make reserved uploads the item's files, in the caller's transaction.

        Raises `Unavailable` if one is not reserved for the item any more, and the driver's errors.
        """
        if not await self._uploads.take([file.upload_id for file in files], item_id, session):
            raise Unavailable("An upload was used or deleted meanwhile. Try again.")

    async def release(self, item_id: bytes, files: Sequence[StoredFile]) -> None:
        """End the reservations of an item that was not stored; changes nothing if it was. Raises `Unavailable`."""
        await self._uploads.release([file.upload_id for file in files], item_id)

    async def read(self, upload_key: bytes, file: StoredFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop``, a chunk at a time. Raises `Damaged` and `Unavailable`."""
        sealer, position = ChunkSealer(self._ring, upload_key), start
        while position < min(stop, file.size):
            document = await self._chunks.find(file.upload_id, position)
            # After the first chunk, each must begin where the one before it ended. A missing one is not counted as
            # damage: the file may have been erased meanwhile.
            if document is None or (position > start and start_of(document) != position):
                raise Damaged
            part = self._open(sealer, document, file.size)[position - start_of(document) :][: stop - position]
            if not part:
                raise Damaged
            # A download may wait long for its client: keep only the plaintext meanwhile.
            del document
            yield part
            position += len(part)

    async def erase(self, files: Sequence[StoredFile]) -> None:
        """Delete the content of files, acknowledged by a majority. Raises `Unavailable`."""
        await self._chunks.delete([file.upload_id for file in files])

    async def _reserve(self, upload_keys: Sequence[bytes], item_id: bytes, delete_at: datetime) -> list[StoredFile]:
        uploads = []
        for position, upload_key in enumerate(upload_keys):
            upload_id = derive_upload_id(upload_key)
            try:
                upload = await self._uploads.reserve(upload_id, item_id)
            except Damaged:
                raise UnusableUpload(position, "unknown or expired") from None
            if upload is None:
                raise UnusableUpload(position, await self._why_unusable(upload_id))
            uploads.append(upload)
        # Only now, because the chunks of an unusable set of uploads should not outlive the uploads.
        for position, upload in enumerate(uploads):
            # The chunks of an upload in its last second may be gone before it.
            if await self._chunks.keep(upload.upload_id, delete_at) != upload.chunks:
                raise UnusableUpload(position, "unknown or expired")
        return [StoredFile(upload.upload_id, upload.size) for upload in uploads]

    async def _why_unusable(self, upload_id: bytes) -> Unusable:
        try:
            upload = await self._uploads.find(upload_id)
        except (UploadNotFound, Damaged):
            return "unknown or expired"
        return "in use" if upload.is_complete else "incomplete"

    def _open(self, sealer: ChunkSealer, document: Document, size: int) -> bytes:
        data, key_id = document.get("data"), document.get("key_id")
        if isinstance(data, bytes) and isinstance(key_id, str):
            if not sealer.holds(key_id):
                self._damaged.inc()
                log.error("file cannot be decrypted: its key is not in the key ring", upload_id=sealer.upload_id.hex())
                raise Unavailable(
                    "The server lacks the key that this was sealed with. Its operator can put the key back."
                )
            with suppress(Unsealable):
                return sealer.open(data, key_id=key_id, start=start_of(document), size=size)
        self._damaged.inc()
        log.error("file cannot be decrypted: modified in the database", upload_id=sealer.upload_id.hex())
        raise Damaged
