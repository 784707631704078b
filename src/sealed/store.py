"""Items in MongoDB: creating, finding and burning them. Concurrent creations and look-ups share commands."""

import asyncio
from collections import Counter as Tally
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import structlog
from pymongo import UpdateOne
from pymongo.read_concern import ReadConcern

from ..core.clock import UNEXPIRED, DatabaseClock
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Mongo, insert_each, translate_mongo_errors
from ..core.database.purging import delete_expired
from ..core.metrics import NOTHING, Counter
from ..core.stored_files import RESERVATION, FileStorage
from ..errors import Damaged, Unavailable
from .items import (
    COLLECTION,
    MOST_LATE,
    SECRET,
    WITHOUT_ENVELOPE,
    Item,
    ItemState,
    erased_when,
    files_end_when,
    from_document,
    to_document,
    waiting,
)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0

log = structlog.get_logger(__name__)


class DamageReporter:
    """Logs items that should be readable and are not; ``damaged`` counts them."""

    def __init__(self, damaged: Counter) -> None:
        self._damaged = damaged

    def changed(self, item_id: bytes) -> Damaged:
        """Report an item that was changed in the database, and return the error to raise."""
        self._damaged.inc()
        log.error("item cannot be decrypted: modified in the database", item_id=item_id.hex())
        return Damaged()

    def without_key(self, item_id: bytes) -> Unavailable:
        """Report an item whose key is not in the ring, and return the error to raise.

        The item itself is intact and opens once the operator has put the key back.
        """
        self._damaged.inc()
        log.error("item cannot be decrypted: its key is not in the key ring", item_id=item_id.hex())
        return Unavailable("The server lacks the key that this was sealed with. Its operator can put the key back.")


class Rollbacks:
    """Writes that undo a request whose outcome is unknown, in the background."""

    def __init__(self, clock: DatabaseClock) -> None:
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, undo: Callable[[], Awaitable[None]], until: datetime) -> None:
        """Call ``undo`` until it does not raise `Unavailable`, or a time has passed."""
        task = asyncio.create_task(self._run(undo, until))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for all of them."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, undo: Callable[[], Awaitable[None]], until: datetime) -> None:
        pause = FIRST_PAUSE
        while until > self._clock.now():
            try:
                await undo()
            except Unavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
            else:
                return


@dataclass(frozen=True)
class Burned:
    """The item that a burn affected: its kind, whether it was still waiting or held by a reader, and has files."""

    kind: str
    was_waiting: bool
    was_held: bool
    has_files: bool


class ItemStore:
    """All queries on items except for claims, attempts and holds; ``damaged`` counts the items that cannot be read."""

    def __init__(self, mongo: Mongo, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._mongo = mongo
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._damage = DamageReporter(damaged)
        self._linearizable = self._collection.with_options(read_concern=ReadConcern("linearizable"))
        self._inserts = batching("insert_items", partial(insert_each, self._collection))
        self._finds = batching("find_items", partial(self._find_each, fields=None))
        self._glances = batching("look_at_items", partial(self._find_each, fields=WITHOUT_ENVELOPE))
        self._histories = batching("find_item_histories", self._find_histories)
        self._late = batching("count_late_attempts", self._count_each)
        self._rollbacks = Rollbacks(mongo.clock)

    async def create(self, item: Item) -> None:
        """Store a new item; returns once a majority has it in its journal."""
        await self._inserts.submit(to_document(item))

    async def create_with(
        self, item: Item, storage: FileStorage, record: Callable[[Any], Awaitable[None]] | None = None
    ) -> None:
        """Store a new item, take over the uploads that were reserved for it, and ``record`` it, in one transaction.

        If that fails, the uploads can be used again soon, unless the item was stored after all.
        """

        async def work(session: Any) -> None:
            if record:
                await record(session)
            if item.files:
                await storage.take(session, item.item_id, item.files)
            await self._collection.insert_one(to_document(item), session=session)

        try:
            await self._mongo.transact(work)
        except (asyncio.CancelledError, Unavailable):
            if not item.files:
                raise
            # Safe even if the transaction is still under way: it fails without the reservations.
            release = partial(storage.release, item.item_id, item.files)
            self._rollbacks.start(release, self._clock.now() + RESERVATION)
            raise

    async def find(self, item_id: bytes) -> Item | None:
        """Return a waiting item with its envelope; None if it is absent, expired or no longer waiting."""
        return await self._finds.submit(item_id)

    async def glance(self, item_id: bytes) -> Item | None:
        """Return the same as `find`, without the envelope."""
        return await self._glances.submit(item_id)

    async def is_waiting(self, item_id: bytes) -> bool:
        """Tell whether an item is waiting, by every write that MongoDB has executed so far.

        `find` may return an item that is just being opened as it was before: it reads what a majority has
        acknowledged. This read costs a write to the oplog.
        """
        query = {"_id": item_id, "state": ItemState.WAITING.value, **UNEXPIRED}
        with translate_mongo_errors():
            return await self._linearizable.find_one(query, {"_id": 1}) is not None

    async def history(self, item_id: bytes) -> Item | None:
        """Return an item in any state, without its envelope; None once its document is gone."""
        return await self._histories.submit(item_id)

    async def histories(self, item_ids: Sequence[bytes]) -> list[Item | Exception | None]:
        """Return the same for several items, with one query; an error for an item that cannot be read."""
        return await self._find_histories(item_ids)

    async def count_late(self, item_id: bytes, claim_id: bytes | None) -> None:
        """Count an attempt to open an item after its last opening, unless it is by the reader of an earlier claim.

        A majority acknowledges this write even if it changes nothing, so a `history` that follows it is not older.
        """
        await self._late.submit((item_id, claim_id))

    async def burn(self, item_id: bytes) -> Burned | None:
        """Destroy a waiting item, and end the holds of all its openings; None if there is no such item.

        An item whose last opening has been claimed can never be opened again after this, even if the claim is given
        back.
        """
        is_waiting = {"state": ItemState.WAITING.value, **UNEXPIRED}
        with translate_mongo_errors():
            before = await self._collection.find_one_and_update(
                {"_id": item_id, "$or": [is_waiting, {"state": ItemState.OPENED.value}]},
                [
                    {"$set": {"burned_at": {"$ifNull": ["$burned_at", "$$NOW"]}}},
                    {
                        "$set": {
                            **erased_when({"$eq": ["$state", ItemState.WAITING.value]}, ItemState.BURNED),
                            **files_end_when(True),
                        }
                    },
                ],
                WITHOUT_ENVELOPE,
            )
        if before is None:
            return None
        try:
            item, now = from_document(before), self._clock.now()
            was_held = any(item.is_held(hold, now) for hold in item.holds)
        except Damaged:
            was_held = False
        was_waiting = before["state"] == ItemState.WAITING.value
        return Burned(str(before.get("kind")), was_waiting, was_held, has_files="files" in before)

    async def delete_expired(self) -> int:
        """Delete the items and tombstones that MongoDB's next TTL pass would delete, and return how many."""
        return await delete_expired(self._collection, "delete_at", self._clock.now())

    async def close(self) -> None:
        """Wait for the commands in flight."""
        for committer in (self._inserts, self._finds, self._glances, self._histories, self._late):
            await committer.close()
        await self._rollbacks.close()

    async def _find_each(
        self, item_ids: Sequence[bytes], *, fields: dict[str, int] | None
    ) -> list[Item | Exception | None]:
        return await self._find_all(item_ids, waiting(list(set(item_ids))), fields)

    async def _find_histories(self, item_ids: Sequence[bytes]) -> list[Item | Exception | None]:
        return await self._find_all(item_ids, {"_id": {"$in": list(set(item_ids))}}, WITHOUT_ENVELOPE)

    async def _find_all(
        self, item_ids: Sequence[bytes], query: Document, fields: dict[str, int] | None
    ) -> list[Item | Exception | None]:
        with translate_mongo_errors():
            documents = await self._collection.find(query, fields).to_list(None)
        found = {document["_id"]: self._item_or_error(document) for document in documents}
        return [found.get(item_id) for item_id in item_ids]

    async def _count_each(self, attempts: Sequence[tuple[bytes, bytes | None]]) -> list[None]:
        updates = []
        for (item_id, claim_id), times in Tally(attempts).items():
            so_far = {"$cond": [{"$isNumber": "$late_attempts"}, "$late_attempts", 0]}
            counted = {"late_attempts": {"$min": [{"$add": [so_far, times]}, MOST_LATE]}, "last_late_at": "$$NOW"}
            query = {"_id": item_id, "kind": SECRET, "state": ItemState.OPENED.value, "claims": {"$ne": claim_id}}
            updates.append(UpdateOne(query, [{"$set": counted}]))
        with translate_mongo_errors():
            await self._collection.bulk_write(updates, ordered=False)
        return [None] * len(attempts)

    def _item_or_error(self, document: Document) -> Item | Damaged:
        try:
            return from_document(document)
        except Damaged:
            return self._damage.changed(document["_id"])
