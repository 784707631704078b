"""Downloads: the content of a file, for as long as its reader holds the opening."""

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager

from ..core.metrics import Metrics
from ..core.stored_files import FileStorage
from ..errors import Damaged, Unavailable
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
        self._active = 0

    async def content(self, held: HeldFile, span: Span) -> AsyncGenerator[bytes, None]:
        """Yield a part of a file, and keep the opening held meanwhile.

        Raises `KeyNotFound` once the opening is no longer held, `Damaged` before the first byte of a chunk that was
        changed in the database, and `Unavailable`.
        """
        with self._slot():
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

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if self._active >= DOWNLOADS_AT_ONCE:
            raise Unavailable("Too many downloads are in progress. Try again after the delay in Retry-After.")
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    async def _require_held(self, held: HeldFile) -> None:
        if not await self._held_files.keep(held):
            raise KeyNotFound
