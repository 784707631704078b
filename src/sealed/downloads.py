"""Downloads: the content of a file, for as long as its reader holds the opening."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..core.metrics import Metrics
from ..core.stored_files import FileStorage, TransferSlots
from ..errors import Damaged
from .file_headers import Span
from .held_files import HeldFile, HeldFiles
from .problems import KeyNotFound

DOWNLOADS_AT_ONCE = 100
"""Maximum number of downloads at once in a process; each needs up to 2 chunks of memory."""
CHECK_SECONDS = 1.0
"""Within this time, and before the next chunk, a download notices that its opening is no longer held."""
PIECE_BYTES = 65_536


class Downloads:
    """Reads the files of held openings from ``storage``, and counts what is sent."""

    def __init__(self, *, held_files: HeldFiles, storage: FileStorage, metrics: Metrics) -> None:
        self._held_files = held_files
        self._storage = storage
        self._started, self._completed = (metrics.downloads.child(event) for event in ("started", "completed"))
        self._bytes = metrics.download_bytes
        self._slots = TransferSlots("downloads")

    async def content(self, held: HeldFile, span: Span) -> AsyncGenerator[bytes, None]:
        """Yield a part of a file, and keep the opening held meanwhile.

        Raises `KeyNotFound` once the opening is no longer held, `Damaged` before the first byte of a chunk that was
        changed in the database, and `Unavailable`.
        """
        with self._slots.take(DOWNLOADS_AT_ONCE):
            self._started.inc()
            checked_at = float("-inf")
            async with aclosing(self._storage.read(held.upload_key, held.file, span.start, span.stop)) as chunks:
                try:
                    async for chunk in chunks:
                        for start in range(0, len(chunk), PIECE_BYTES):
                            if start == 0 or time.monotonic() > checked_at + CHECK_SECONDS:
                                await self._require_held(held)
                                checked_at = time.monotonic()
                            piece = chunk[start : start + PIECE_BYTES]
                            yield piece
                            self._bytes.inc(len(piece))
                except Damaged:
                    # The chunk may be missing because the files were erased meanwhile.
                    await self._require_held(held)
                    raise
            self._completed.inc()

    async def _require_held(self, held: HeldFile) -> None:
        if not await self._held_files.keep(held):
            raise KeyNotFound
