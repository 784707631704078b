"""Items in MongoDB: creating, finding and burning them. Concurrent creations and look-ups share commands."""

from collections.abc import Sequence
from functools import partial

import structlog
from pymongo.read_concern import ReadConcern

from ..core.clock import UNEXPIRED
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Mongo, insert_each, translate_mongo_errors
from ..core.database.purging import delete_expired
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged, Unavailable
from .items import COLLECTION, WITHOUT_ENVELOPE, Item, ItemState, erased_when, from_document, to_document, waiting

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


class ItemStore:
    """All queries on items except for claims and attempts; ``damaged`` counts the items that cannot be read."""

    def __init__(self, mongo: Mongo, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._damage = DamageReporter(damaged)
        self._linearizable = self._collection.with_options(read_concern=ReadConcern("linearizable"))
        self._inserts = batching("insert_items", partial(insert_each, self._collection))
        self._finds = batching("find_items", partial(self._find_each, fields=None))
        self._glances = batching("look_at_items", partial(self._find_each, fields=WITHOUT_ENVELOPE))

    async def create(self, item: Item) -> None:
        """Store a new item; returns once a majority has it in its journal."""
        await self._inserts.submit(to_document(item))

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
        with translate_mongo_errors():
            document = await self._collection.find_one({"_id": item_id}, WITHOUT_ENVELOPE)
        if document is None:
            return None
        item = self._item_or_error(document)
        if isinstance(item, Damaged):
            raise item
        return item

    async def burn(self, item_id: bytes) -> str | None:
        """Destroy a waiting item unopened and return its kind; None if there is none.

        An item whose last opening has been claimed can never be opened again after this, even if the claim is given
        back.
        """
        is_waiting = {"state": ItemState.WAITING.value, **UNEXPIRED}
        with translate_mongo_errors():
            before = await self._collection.find_one_and_update(
                {"_id": item_id, "$or": [is_waiting, {"state": ItemState.OPENED.value}]},
                [
                    {"$set": {"burned_at": {"$ifNull": ["$burned_at", "$$NOW"]}}},
                    {"$set": erased_when({"$eq": ["$state", ItemState.WAITING.value]}, ItemState.BURNED)},
                ],
                {"kind": 1, "state": 1},
            )
        return str(before.get("kind")) if before and before["state"] == ItemState.WAITING.value else None

    async def delete_expired(self) -> int:
        """Delete the items and tombstones that MongoDB's next TTL pass would delete, and return how many."""
        return await delete_expired(self._collection, "delete_at", self._clock.now())

    async def close(self) -> None:
        """Wait for the commands in flight."""
        for committer in (self._inserts, self._finds, self._glances):
            await committer.close()

    async def _find_each(
        self, item_ids: Sequence[bytes], *, fields: dict[str, int] | None
    ) -> list[Item | Exception | None]:
        with translate_mongo_errors():
            cursor = self._collection.find(waiting(list(set(item_ids))), fields)
            found = {document["_id"]: self._item_or_error(document) for document in await cursor.to_list(None)}
        return [found.get(item_id) for item_id in item_ids]

    def _item_or_error(self, document: Document) -> Item | Damaged:
        try:
            return from_document(document)
        except Damaged:
            return self._damage.changed(document["_id"])
