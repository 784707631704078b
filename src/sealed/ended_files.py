"""Erasing the files of items that no reader can open or download any more.

The update that ends the last opening or hold of an item sets ``files_until`` on its tombstone. From that time on, the
files may be erased: no hold can be prolonged then, and no claim given back. The request that ends a hold erases them at
once; every process also does so periodically, for holds that end by time and for requests that were interrupted.
Erasing may be repeated. Files of items that expire unopened are deleted by the TTL index of their chunks.
"""

import asyncio

import structlog

from ..core.database.mongo import Document, Mongo, translate_mongo_errors
from ..core.stored_files import FileStorage
from ..errors import Unavailable
from .items import COLLECTION, read_files

SWEEP_SECONDS = 5.0
WAIT_SECONDS = 2.0
"""Time that a request waits for files to be erased; deleting gigabytes takes longer."""
BATCH = 20
"""Items whose files are erased in one round."""
_HAVE_ENDED: Document = {"$expr": {"$lte": ["$files_until", "$$NOW"]}}

log = structlog.get_logger(__name__)


class EndedFiles:
    """Erases the files of items that have ended."""

    def __init__(self, mongo: Mongo, storage: FileStorage) -> None:
        self._items = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._storage = storage
        self._tasks: set[asyncio.Task[None]] = set()

    async def erase(self, item_id: bytes) -> None:
        """Erase the files of an item if they have ended, in the background after `WAIT_SECONDS`.

        If MongoDB does not answer, `sweep` erases them later.
        """
        task = asyncio.create_task(self._erase_soon(item_id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait([task], timeout=WAIT_SECONDS)

    async def sweep(self) -> None:
        """Erase the files of all items whose files have ended. Raises `Unavailable`."""
        # By the index; the expression decides.
        while await self._erase_all({"files_until": {"$lte": self._clock.now()}, **_HAVE_ENDED}) == BATCH:
            pass

    async def close(self) -> None:
        """Wait until no request's files are being erased."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _erase_soon(self, item_id: bytes) -> None:
        try:
            await self._erase_all({"_id": item_id, "files_until": {"$exists": True}, **_HAVE_ENDED})
        except Unavailable:
            log.warning("files not erased yet")

    async def _erase_all(self, query: Document) -> int:
        """Erase the files of up to `BATCH` items, and return the number of items."""
        with translate_mongo_errors():
            ended = await self._items.find(query, {"files": 1, "files_until": 1}).limit(BATCH).to_list(None)
        for document in ended:
            await self._erase(document)
        return len(ended)

    async def _erase(self, document: Document) -> None:
        try:
            files = read_files(document["files"])
        except (KeyError, TypeError, ValueError):
            # Changed in the database: the chunks expire with the item.
            log.error("files of an item cannot be erased: modified in the database", item_id=document["_id"].hex())
        else:
            await self._storage.erase(files)
        # Unless the sender has burned the item meanwhile: those files are erased again.
        erased = {"_id": document["_id"], "files_until": document["files_until"]}
        with translate_mongo_errors():
            await self._items.update_one(erased, {"$unset": {"files_until": 1}})
