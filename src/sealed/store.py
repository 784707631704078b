"""The items in MongoDB: creating, finding, burning. Creations and look-ups share commands with their contemporaries."""

from collections.abc import Sequence

from ..core.clock import UNEXPIRED
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Mongo, insert_each, translate_mongo_errors
from ..core.database.purging import delete_expired
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged
from .damage import Damage
from .items import COLLECTION, WITHOUT_ENVELOPE, Item, State, erased_when, from_document, to_document, waiting


class ItemStore:
    """Every query on items that neither opens one nor tries a phrase; ``damaged`` counts those that cannot be read."""

    def __init__(self, mongo: Mongo, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._damage = Damage(damaged)
        self._inserts = batching("insert_items", self._insert)
        self._finds = batching("find_items", self._find_each)
        self._glances = batching("look_at_items", self._glance_each)

    async def create(self, item: Item) -> None:
        """Store a new item; when this returns, a majority has it in its journal."""
        await self._inserts.submit(to_document(item))

    async def find(self, item_id: bytes) -> Item | None:
        """Return a waiting item with its envelope; None where it is absent, expired or no longer waiting."""
        return await self._finds.submit(item_id)

    async def glance(self, item_id: bytes) -> Item | None:
        """Return what `find` does, without the envelope."""
        return await self._glances.submit(item_id)

    async def history(self, item_id: bytes) -> Item | None:
        """Return an item in whatever state, without its envelope; None where its document is gone."""
        with translate_mongo_errors():
            document = await self._collection.find_one({"_id": item_id}, WITHOUT_ENVELOPE)
        if document is None:
            return None
        item = self._item_or_error(document)
        if isinstance(item, Damaged):
            raise item
        return item

    async def burn(self, item_id: bytes) -> str | None:
        """Destroy a waiting item unopened and return its kind; None when there is none.

        An item whose last opening has been claimed can never be opened again after this, not even where the claim is
        given back.
        """
        is_waiting = {"state": State.WAITING.value, **UNEXPIRED}
        with translate_mongo_errors():
            before = await self._collection.find_one_and_update(
                {"_id": item_id, "$or": [is_waiting, {"state": State.OPENED.value}]},
                [
                    {"$set": {"burned_at": {"$ifNull": ["$burned_at", "$$NOW"]}}},
                    {"$set": erased_when({"$eq": ["$state", State.WAITING.value]}, State.BURNED)},
                ],
                {"kind": 1, "state": 1},
            )
        return str(before.get("kind")) if before and before["state"] == State.WAITING.value else None

    async def delete_expired(self) -> int:
        """Delete the items and tombstones that MongoDB would delete in its next TTL pass, and return how many."""
        return await delete_expired(self._collection, "delete_at", self._clock.now())

    async def close(self) -> None:
        """Wait for the commands in flight."""
        for committer in (self._inserts, self._finds, self._glances):
            await committer.close()

    async def _insert(self, documents: Sequence[Document]) -> Sequence[Exception | None]:
        return await insert_each(self._collection, documents)

    async def _find_each(self, item_ids: Sequence[bytes]) -> Sequence[Item | Exception | None]:
        return await self._read(item_ids, None)

    async def _glance_each(self, item_ids: Sequence[bytes]) -> Sequence[Item | Exception | None]:
        return await self._read(item_ids, WITHOUT_ENVELOPE)

    async def _read(self, item_ids: Sequence[bytes], fields: dict[str, int] | None) -> list[Item | Exception | None]:
        with translate_mongo_errors():
            cursor = self._collection.find(waiting(list(set(item_ids))), fields)
            found = {document["_id"]: self._item_or_error(document) for document in await cursor.to_list(None)}
        return [found.get(item_id) for item_id in item_ids]

    def _item_or_error(self, document: Document) -> Item | Damaged:
        try:
            return from_document(document)
        except Damaged:
            return self._damage.changed(document["_id"])
