"""Stores gathered messages in MongoDB, in bundles.

A bundle is one document with the deliveries of one group commit of a worker. Its id is its position. A worker reads up
to the last bundle that a majority has, continues the numbering of each sender from there, and inserts its bundle at the
next position. If several workers do so at once, one succeeds, and the others read again and retry. So positions and
numbers have no gaps, and a bundle appears after all bundles before it: a reader that continues from the last position
it has seen misses none.

There is no transaction: one left open by a killed or frozen worker would block all others for a minute.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from pymongo import DeleteOne, IndexModel, UpdateOne
from pymongo.errors import DuplicateKeyError

from ..core.crypto.keys import KeyRing
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.metrics import Metrics
from ..errors import Damaged, Unavailable
from .bundle import (
    COLLECTION,
    HIGHEST,
    BundleContent,
    BundleSealer,
    Delivery,
    document_id,
    position_of,
)
from .problems import BatchReused
from .sender_counters import SenderCounters

INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
        IndexModel([("senders.user_id", 1), ("_id", 1)], name="senders"),
        IndexModel([("received_at", 1), ("_id", 1), ("expires_at", 1), ("count", 1)], name="received_at"),
        IndexModel("batch_index", name="batch_index", unique=True, sparse=True),
    ]
}
MOST_CHARACTERS = 1_000_000
"""Maximum characters in a bundle, unless a single delivery has more: a document is limited to 16 MiB."""
LONGEST_PAUSE = 0.01
"""Maximum seconds before a retry after a conflict: about as long as a majority needs to acknowledge a bundle."""
ERASED_AT_ONCE = 200

log = structlog.get_logger(__name__)


class Sequences(NamedTuple):
    """The numbers that the sender's first and last message of a delivery got."""

    first: int
    last: int


@dataclass(frozen=True, eq=False, repr=False)
class _New:
    user_id: bytes
    messages: tuple[str, ...]
    batch: str | None
    batch_index: list[bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.messages))


@dataclass(frozen=True)
class _Head:
    """The last position, the time of the next bundle, and each sender's last number."""

    position: int
    received_at: datetime
    lasts: Mapping[bytes, int]

    def number(self, new: Sequence[_New]) -> tuple[Delivery, ...]:
        """Return the deliveries of the next bundle, with each sender's numbering continued."""
        lasts, deliveries = dict(self.lasts), []
        for one in new:
            deliveries.append(
                Delivery(user_id=one.user_id, sequence=lasts[one.user_id] + 1, batch=one.batch, messages=one.messages)
            )
            lasts[one.user_id] = deliveries[-1].last
        return tuple(deliveries)


_Outcome = Sequences | BatchReused | Damaged


class BundleStore:
    """Stores messages for ``life``, and deletes the messages of a user. ``patience``: seconds to retry for."""

    def __init__(
        self, mongo: Mongo, ring: KeyRing, batching: Batching, metrics: Metrics, *, life: timedelta, patience: float
    ) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._counters = SenderCounters(mongo)
        self._sealer = BundleSealer(ring, metrics.damaged)
        self._stored = metrics.gathered_messages
        self._life = life
        self._patience = patience
        self._counting: set[asyncio.Task[None]] = set()
        # Of two concurrent requests with the same batch id, the second waits and finds the batch stored.
        self._inserts = batching(
            "store_gathered", self._store_each, key=lambda new: new.batch_index[0] if new.batch_index else id(new)
        )

    async def add(self, user_id: bytes, messages: Sequence[str], batch: str | None) -> Sequences:
        """Store messages of a sender atomically, and return the numbers of the first and the last.

        A batch id that was used before stores nothing. Raises `BatchReused` if it was used for other messages,
        `Damaged` if the stored batch cannot be decrypted, and `Unavailable`.
        """
        new = _New(user_id, tuple(messages), batch, self._sealer.index(user_id, batch))
        return await self._inserts.submit(new)

    async def erase(self, user_id: bytes) -> None:
        """Delete all messages of a user and the user's counter. Idempotent.

        A bundle that cannot be decrypted is left alone; messages of deleted users are never exported.
        """
        counted, last = document_id((await self._counters.read()).position), b""
        while documents := await self._of_sender(user_id, last):
            changes = [change for one in documents if (change := self._without(user_id, one, counted))]
            done = 0
            if changes:
                with translate_mongo_errors():
                    result = await self._collection.bulk_write(changes, ordered=False)
                done = result.matched_count + result.deleted_count
            if done == len(changes):
                last = documents[-1]["_id"]
            # Otherwise a bundle was resealed meanwhile: read it again.
        await self._counters.forget(user_id)

    async def close(self) -> None:
        """Wait for commands in flight."""
        await self._inserts.close()
        if self._counting:
            await asyncio.wait(self._counting)

    async def _store_each(self, new: Sequence[_New]) -> Sequence[Sequences | Exception]:
        outcomes: list[Sequences | Exception] = []
        for some in _in_portions(new):
            try:
                async with asyncio.timeout(self._patience):
                    outcomes += await self._store_all(some)
            except TimeoutError:
                log.warning("bundle insert timed out: no free position")
                outcomes += [Unavailable()] * len(some)
            except Exception as error:  # noqa: BLE001 (other portions have their own outcomes)
                outcomes += [error] * len(some)
        return outcomes

    async def _store_all(self, new: Sequence[_New]) -> Sequence[_Outcome]:
        while True:
            outcomes, head = await asyncio.gather(self._known(new), self._head({one.user_id for one in new}))
            fresh = [one for one in new if one not in outcomes]
            if fresh:
                content = BundleContent(received_at=head.received_at, deliveries=head.number(fresh))
                if not await self._insert(head.position + 1, content):
                    await asyncio.sleep(random.random() * LONGEST_PAUSE)  # noqa: S311 (no secret)
                    continue
                for one, delivery in zip(fresh, content.deliveries, strict=True):
                    outcomes[one] = Sequences(delivery.sequence, delivery.last)
                self._stored.inc(sum(len(one.messages) for one in fresh))
                self._count_later(head, content.deliveries)
            return [outcomes[one] for one in new]

    async def _insert(self, position: int, content: BundleContent) -> bool:
        """Insert a bundle; return False if another worker has taken the position or stored one of the batches."""
        bundle_id = document_id(position)
        document = {
            "_id": bundle_id,
            "received_at": content.received_at,
            "expires_at": content.received_at + self._life,
            **self._sealer.seal(content, bundle_id),
        }
        with translate_mongo_errors():
            try:
                await self._collection.insert_one(document)
            except DuplicateKeyError:
                return False
        return True

    async def _head(self, user_ids: set[bytes]) -> _Head:
        """Return the end of the bundles that a majority has acknowledged."""
        counts = await self._counters.read(user_ids)
        behind = {"_id": {"$gt": document_id(counts.position), "$lte": document_id(HIGHEST)}}
        with translate_mongo_errors():
            found = self._collection.find(behind, {"senders": 1, "received_at": 1}).sort("_id", 1)
            uncounted = await found.to_list(None)
        position = position_of(uncounted[-1]) if uncounted else counts.position
        received_at = max([counts.now, *(bundle["received_at"] for bundle in uncounted)])
        lasts = dict(counts.lasts)
        for sender in (sender for bundle in uncounted for sender in bundle["senders"]):
            lasts[sender["user_id"]] = max(lasts.get(sender["user_id"], 0), sender["last"])
        return _Head(position, received_at, lasts)

    def _count_later(self, head: _Head, deliveries: Sequence[Delivery]) -> None:
        """Update the counters in the background, so that no request waits for it."""

        async def count() -> None:
            lasts = {**head.lasts, **{one.user_id: one.last for one in deliveries}}
            with suppress(Unavailable):  # logged already; the next bundle updates them as well
                await self._counters.note(head.position + 1, head.received_at, lasts)

        task = asyncio.create_task(count())
        self._counting.add(task)
        task.add_done_callback(self._counting.discard)

    async def _known(self, new: Sequence[_New]) -> dict[_New, _Outcome]:
        """Return the outcomes of batches that are stored already."""
        wanted = [index for one in new for index in one.batch_index]
        if not wanted:
            return {}
        with translate_mongo_errors():
            documents = await self._collection.find({"batch_index": {"$in": wanted}}).to_list(None)
        by_index = {index: document for document in documents for index in document["batch_index"]}
        contents: dict[bytes, BundleContent | None] = {}
        found: dict[_New, _Outcome] = {}
        for one in new:
            document = next((by_index[index] for index in one.batch_index if index in by_index), None)
            if document is not None:
                if document["_id"] not in contents:
                    contents[document["_id"]] = self._sealer.open(document)
                found[one] = _outcome(one, contents[document["_id"]])
        return found

    async def _of_sender(self, user_id: bytes, after: bytes) -> Sequence[Document]:
        query = {"senders.user_id": user_id, "_id": {"$gt": after}}
        with translate_mongo_errors():
            found = self._collection.find(query).sort("_id", 1).limit(-ERASED_AT_ONCE)
            documents: Sequence[Document] = await found.to_list(None)
        return documents

    def _without(self, user_id: bytes, document: Document, counted: bytes) -> UpdateOne | DeleteOne | None:
        """Return the write that removes a user's messages from a bundle."""
        content = self._sealer.open(document)
        if content is None:
            return None
        same = {"_id": document["_id"], "envelope": document["envelope"]}
        deliveries = tuple(one for one in content.deliveries if one.user_id != user_id)
        if not deliveries and document["_id"] <= counted:
            return DeleteOne(same)  # a bundle that is not counted yet marks its position
        changes = self._sealer.seal(
            BundleContent(received_at=content.received_at, deliveries=deliveries), document["_id"]
        )
        gone = {} if "batch_index" in changes else {"$unset": {"batch_index": ""}}
        return UpdateOne(same, {"$set": changes, **gone})


def _outcome(one: _New, content: BundleContent | None) -> _Outcome:
    if content is None:
        return Damaged(
            "This batch is already stored but cannot be read any more. Contact the operator of this service."
        )
    found = next((some for some in content.deliveries if (some.user_id, some.batch) == (one.user_id, one.batch)), None)
    if found is None or found.messages != one.messages:
        return BatchReused()
    return Sequences(found.sequence, found.last)


def _in_portions(new: Sequence[_New]) -> Sequence[Sequence[_New]]:
    """Split deliveries into portions that fit into a bundle."""
    portions: list[list[_New]] = []
    size = 0
    for one in new:
        size += one.size
        if not portions or size > MOST_CHARACTERS:
            portions.append([])
            size = one.size
        portions[-1].append(one)
    return portions
