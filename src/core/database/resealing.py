"""Key rotation: re-encrypts records under the newest key, and reports which keys are still needed.

Each document is replaced by compare-and-set on its old envelope. So the work may be interrupted anywhere and repeated,
and may run in parallel with live traffic or with itself: a document that changed meanwhile is processed again.

An item that opens only with a link cannot be re-encrypted. Its key is needed until it expires.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pymongo
from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from ..crypto.keys import KeyRing, is_key_id
from ..crypto.records import Content, RecordSealer
from ..crypto.sealing import Unsealable
from .mongo import DUPLICATE, Document, Mongo, translate_mongo_errors

BATCH = 200
"""Documents read or written with one command."""
SCAN_SECONDS = 60.0
"""Timeout of a command that scans a whole collection."""
MOST_KEYS = 10_000

Report = Callable[[str, int, int], None]
"""Called with a collection, the number of documents processed, and their total."""


@dataclass(frozen=True)
class Resealable:
    """A collection of sealed records; each feature lists its own.

    ``reindex`` returns the fields that depend on the ring in addition to the envelope, such as blind indexes, for a
    content. If every write that seals also indexes (``is_indexed_as_sealed``), documents under the newest key are
    indexed under it already.
    """

    collection: str
    kind: str
    schema: type[Content]
    reindex: Callable[[KeyRing, Any], Document] | None = None
    is_indexed_as_sealed: bool = False


@dataclass(frozen=True)
class Expiring:
    """The documents of a collection, selected by a query, that open only with a link; ``expires`` is a field."""

    collection: str
    query: Document
    expires: str = "expires_at"


@dataclass
class Resealed:
    """The result for one collection; the lists hold ids.

    ``unopened`` documents were modified in the database, or the ring lacks their key. ``clashing`` documents would
    violate a unique index. Both are left unchanged.
    """

    collection: str
    changed: int = 0
    unopened: list[bytes] = field(default_factory=list)
    clashing: list[bytes] = field(default_factory=list)


@dataclass
class KeyUse:
    """The number of documents under one key, by collection; ``key_id`` is None for an invalid key id.

    ``waiting`` documents expire by themselves, the last one at ``waiting_until``.
    """

    key_id: str | None
    held: bool
    newest: bool
    sealed: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    waiting_until: datetime | None = None


@dataclass(frozen=True)
class Uses:
    """The keys of the ring, newest first, then keys found only in the database.

    ``unindexed`` is the number of documents under the newest key that are not indexed under it yet.
    """

    keys: Sequence[KeyUse]
    unindexed: int

    def may_be_dropped(self, use: KeyUse) -> bool:
        """Tell whether no document in the database needs a key of the ring."""
        needed = sum(use.sealed.values()) + sum(use.waiting.values()) + self.unindexed
        return use.held and not use.newest and not needed


class Resealing:
    """Re-encrypts and counts the documents of the given collections."""

    def __init__(self, mongo: Mongo, ring: KeyRing, resealable: Sequence[Resealable], expiring: Sequence[Expiring]):
        self._mongo = mongo
        self._ring = ring
        self._records = [_Records(mongo, ring, one) for one in resealable]
        self._expiring = expiring

    async def run(self, report: Report) -> list[Resealed]:
        """Re-encrypt all records under the newest key, and index them under the current ring.

        Raises `Unavailable`; completed documents stay done.
        """
        return [await records.reseal(report) for records in self._records]

    async def uses(self) -> Uses:
        """Count the documents under each key. Raises `Unavailable`."""
        ring = self._ring
        found: dict[str | None, KeyUse] = {
            key_id: KeyUse(key_id, held=True, newest=key_id == ring.newest) for key_id in ring.key_ids
        }
        await self._count(found, {})
        unindexed = sum([await records.unindexed() for records in self._records])
        return Uses(list(found.values()), unindexed)

    async def missing(self) -> list[KeyUse]:
        """Count the documents under keys that the ring lacks; faster than `uses`, because it opens no document.

        Raises `Unavailable`.
        """
        found: dict[str | None, KeyUse] = {}
        await self._count(found, {"key_id": {"$nin": list(self._ring.key_ids)}})
        return list(found.values())

    async def missing_keys(self) -> list[str]:
        """Return the ids of keys that documents need and the ring lacks. Raises `Unavailable`."""
        return [use.key_id for use in await self.missing() if use.key_id]

    async def _count(self, found: dict[str | None, KeyUse], condition: Document) -> None:
        """Add the documents that match the condition to the uses of their keys."""

        def use_of(group: Mapping[str, Any]) -> KeyUse:
            key_id = group["_id"] if is_key_id(group["_id"]) else None
            return found.setdefault(key_id, KeyUse(key_id, held=False, newest=False))

        for records in self._records:
            for group in await self._by_key(records.collection, condition, "expires_at"):
                use = use_of(group)
                use.sealed[records.collection] = use.sealed.get(records.collection, 0) + group["documents"]
        for expiring in self._expiring:
            query = {**condition, **expiring.query, expiring.expires: {"$gt": self._mongo.clock.now()}}
            for group in await self._by_key(expiring.collection, query, expiring.expires):
                use = use_of(group)
                use.waiting[expiring.collection] = use.waiting.get(expiring.collection, 0) + group["documents"]
                use.waiting_until = max(filter(None, (use.waiting_until, group["until"])))

    async def _by_key(self, collection: str, query: Document, expires: str) -> list[Document]:
        group = {"_id": "$key_id", "documents": {"$sum": 1}, "until": {"$max": f"${expires}"}}
        command = {
            "aggregate": collection,
            "pipeline": [{"$match": query}, {"$group": group}],
            "cursor": {"batchSize": MOST_KEYS},
        }
        database = self._mongo.database
        with pymongo.timeout(SCAN_SECONDS), translate_mongo_errors():
            answer = await database.command(command, codec_options=database.codec_options)
        groups: list[Document] = answer["cursor"]["firstBatch"]
        return groups


class _Records:
    """One collection."""

    def __init__(self, mongo: Mongo, ring: KeyRing, resealable: Resealable) -> None:
        self.collection = resealable.collection
        self._documents = mongo.collection(resealable.collection)
        self._ring = ring
        self._schema = resealable.schema
        self._reindex = resealable.reindex
        self._may_lag = resealable.reindex is not None and not resealable.is_indexed_as_sealed
        self._sealer = RecordSealer(ring, resealable.kind)

    async def reseal(self, report: Report) -> Resealed:
        # Indexed documents are opened in any case: a password change seals the record again, but does not index it.
        query: Document = {} if self._may_lag else {"key_id": {"$ne": self._ring.newest}}
        with pymongo.timeout(SCAN_SECONDS), translate_mongo_errors():
            total = await self._documents.count_documents(query)
        resealed, done = Resealed(self.collection), 0
        report(self.collection, done, total)
        async for page in self._pages(query):
            await self._reseal(page, resealed)
            done += len(page)
            report(self.collection, done, max(total, done))
        return resealed

    async def unindexed(self) -> int:
        if not self._may_lag:
            return 0
        count = 0
        async for page in self._pages({"key_id": self._ring.newest}):
            for document in page:
                try:
                    count += bool(self._changes(document))
                except Unsealable:
                    continue  # indexed under no key
        return count

    async def _reseal(self, page: Sequence[Document], resealed: Resealed) -> None:
        while page:
            changes: dict[bytes, UpdateOne] = {}
            for document in page:
                try:
                    change = self._changes(document)
                except Unsealable:
                    resealed.unopened.append(document["_id"])
                    continue
                if change:
                    same = {"_id": document["_id"], "envelope": document["envelope"]}
                    changes[document["_id"]] = UpdateOne(same, {"$set": change})
            if not changes:
                return
            matched, clashing = await self._write(changes)
            resealed.changed += matched
            resealed.clashing += clashing
            if matched + len(clashing) == len(changes):
                return
            # Some documents were changed or deleted meanwhile. Those changed here need no further work.
            again = [document_id for document_id in changes if document_id not in clashing]
            with translate_mongo_errors():
                page = await self._documents.find({"_id": {"$in": again}}).to_list(None)

    async def _write(self, changes: Mapping[bytes, UpdateOne]) -> tuple[int, list[bytes]]:
        """Return the number of documents replaced, and the ids of those that a unique index refused."""
        with translate_mongo_errors():
            try:
                result = await self._documents.bulk_write(list(changes.values()), ordered=False)
            except BulkWriteError as error:
                failures = error.details["writeErrors"]
                if error.details.get("writeConcernErrors") or any(one["code"] != DUPLICATE for one in failures):
                    raise
                ids = list(changes)
                return error.details["nMatched"], [ids[one["index"]] for one in failures]
        return result.matched_count, []

    def _changes(self, document: Document) -> Document:
        """Return the fields to set in a document. Raises `Unsealable`."""
        content = self._sealer.open(self._schema, document)
        changes = self._reindex(self._ring, content) if self._reindex else {}
        changes = {name: value for name, value in changes.items() if document.get(name) != value}
        if document["key_id"] != self._ring.newest:
            changes |= self._sealer.seal(content, document["_id"])
        return changes

    async def _pages(self, query: Document) -> AsyncIterator[list[Document]]:
        # One command a page instead of one cursor for all: no page outlives a time limit. Ids are bytes, so the empty
        # one comes before all; a document with any other kind of id is not ours and would not open.
        last = b""
        while True:
            with pymongo.timeout(SCAN_SECONDS), translate_mongo_errors():
                # Below zero, the limit is for one reply, which MongoDB ends at 16 MiB however large the documents are.
                found = self._documents.find({**query, "_id": {"$gt": last}}).sort("_id", 1).limit(-BATCH)
                page = await found.to_list(None)
            if not page:
                return
            yield page
            last = page[-1]["_id"]
