"""Times of the last activity of users and API tokens, to the minute: one write a minute for each and worker at most.

The writes happen in the background. No request waits for one, and a process that dies loses a minute at most.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from pymongo import UpdateOne

from ..core.database.group_commit import Batching
from ..core.database.mongo import Mongo, translate_mongo_errors
from ..errors import Unavailable
from . import api_tokens, users

MINUTE = 60.0  # seconds
_FIELDS = {users.COLLECTION: "last_request_at", api_tokens.COLLECTION: "last_used_at"}


class _Mark(NamedTuple):
    collection: str
    document_id: bytes
    moment: datetime


class Activity:
    """Records the activity of users and API tokens."""

    def __init__(self, mongo: Mongo, batching: Batching) -> None:
        self._mongo = mongo
        self._writes = batching("note_activity", self._write)
        self._noted_since = time.monotonic()
        self._noted: set[tuple[str, bytes]] = set()
        self._writing: set[asyncio.Task[None]] = set()

    def note(self, user_id: bytes, token_id: bytes | None) -> None:
        """Record that a user makes a request, with an API token if there is one."""
        now = time.monotonic()
        if now - self._noted_since >= MINUTE:
            self._noted.clear()
            self._noted_since = now
        self._note(users.COLLECTION, user_id)
        if token_id is not None:
            self._note(api_tokens.COLLECTION, token_id)

    async def close(self) -> None:
        """Wait for the writes in flight."""
        if self._writing:
            await asyncio.wait(self._writing)
        await self._writes.close()

    def _note(self, collection: str, document_id: bytes) -> None:
        if (collection, document_id) in self._noted:
            return
        self._noted.add((collection, document_id))
        task = asyncio.create_task(self._submit(_Mark(collection, document_id, self._mongo.clock.now())))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _submit(self, mark: _Mark) -> None:
        try:
            await self._writes.submit(mark)
        except Unavailable:
            self._noted.discard((mark.collection, mark.document_id))

    async def _write(self, marks: Sequence[_Mark]) -> Sequence[None]:
        for collection, field in _FIELDS.items():
            updates = [
                UpdateOne({"_id": mark.document_id}, {"$max": {field: mark.moment}})
                for mark in marks
                if mark.collection == collection
            ]
            if updates:
                with translate_mongo_errors():
                    await self._mongo.collection(collection).bulk_write(updates, ordered=False)
        return [None] * len(marks)
