"""Reads bundles in the order of their positions, a page at a time, by time and sender.

Times never decrease from one position to the next. So a span of time is a span of positions, and a page starts where
the last one ended, even if bundles are deleted meanwhile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, takewhile
from typing import Any

import pymongo
from pymongo import ASCENDING, DESCENDING

from ..core.clock import EPOCH
from ..core.database.mongo import Document, Mongo, aggregate, translate_mongo_errors
from .bundle import COLLECTION, HIGHEST, document_id, position_of

PAGE = 500
"""Maximum bundles in a page."""
PAGE_BYTES = 1024 * 1024
"""Maximum bytes in a page, unless its only bundle has more."""
SCAN_SECONDS = 60.0
"""Timeout of commands that scan a collection."""


@dataclass(frozen=True)
class Span:
    """Selects messages by user and time: ``since`` is inclusive, ``until`` exclusive."""

    since: datetime | None = None
    until: datetime | None = None
    user_id: bytes | None = None


@dataclass(frozen=True, repr=False)
class SealedBundle:
    """A bundle that is still encrypted: a page of decrypted bundles would need more memory."""

    position: int
    received_at: datetime
    senders: frozenset[bytes]
    document: Document


class BundleReader:
    """Every query that reads bundles."""

    def __init__(self, mongo: Mongo) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock

    async def ends(self, span: Span) -> tuple[int, int]:
        """Return the position before the first bundle of a span of time, and the position of the last one."""
        with translate_mongo_errors():
            last = await self._edge({"received_at": {"$lt": span.until}} if span.until else {}, DESCENDING)
            if span.since is None:
                return 0, last
            first = await self._edge({"received_at": {"$gte": span.since}}, ASCENDING)
        return (first - 1 if first else last), last

    async def last(self) -> int:
        """Return the position of the last bundle, or 0."""
        with translate_mongo_errors():
            return await self._edge({}, DESCENDING)

    async def first_after(self, moment: datetime) -> int | None:
        """Return the position of the first bundle received after a time, if there is one."""
        with translate_mongo_errors():
            return await self._edge({"received_at": {"$gt": moment}}, ASCENDING) or None

    async def page(self, span: Span, after: int, last: int | None = None) -> Sequence[SealedBundle]:
        """Return the next bundles after a position, up to another position; an empty page is the end."""
        first, end = document_id(after), document_id(HIGHEST if last is None else last)
        documents: Sequence[Document] = ()
        while not documents:
            # Read the sizes first: a bundle may have 100 bytes or 1,000,000.
            sizes = await self._find(first, end, span, {"size": {"$bsonSize": "$$ROOT"}})
            if not sizes:
                break
            totals = accumulate(one["size"] for one in sizes)
            fitting = sum(1 for _ in takewhile(lambda total: total <= PAGE_BYTES, totals))
            page_end = sizes[max(fitting, 1) - 1]["_id"]
            documents = await self._find(first, page_end, span)
            first = page_end  # if all of them were deleted meanwhile
        return [
            SealedBundle(position_of(document), _received_at(document), _senders(document), document)
            for document in documents
        ]

    async def count(self, span: Span) -> int:
        """Return the number of messages in a span."""
        pipeline: list[Document] = [{"$match": self._matching(span)}]
        total, index = "$count", "received_at"  # a covering index
        if span.user_id is not None:
            pipeline += [{"$unwind": "$senders"}, {"$match": {"senders.user_id": span.user_id}}]
            total, index = "$senders.count", "senders"
        pipeline.append({"$group": {"_id": None, "count": {"$sum": total}}})
        with pymongo.timeout(SCAN_SECONDS), translate_mongo_errors():
            groups = await aggregate(self._collection, pipeline, hint=index)
        return int(groups[0]["count"]) if groups else 0

    async def _find(self, after: bytes, last: bytes, span: Span, fields: Document | None = None) -> Sequence[Document]:
        query = {"_id": {"$gt": after, "$lte": last}, **self._matching(span)}
        index = "_id_" if span.user_id is None else "senders"
        with translate_mongo_errors():
            found = self._collection.find(query, fields).hint(index).sort("_id", ASCENDING).limit(PAGE)
            documents: Sequence[Document] = await found.to_list(None)
        return documents

    async def _edge(self, query: Document, direction: int) -> int:
        order = [("_id", direction)] if not query else [("received_at", direction), ("_id", direction)]
        # A document with an id of another length is not a bundle.
        positions = {"_id": {"$gte": document_id(0), "$lte": document_id(HIGHEST)}}
        document = await self._collection.find_one({**query, **positions}, {"_id": 1}, sort=order)
        return position_of(document) if document else 0

    def _matching(self, span: Span) -> Document:
        times: dict[str, Any] = {}
        if span.since:
            times["$gte"] = span.since
        if span.until:
            times["$lt"] = span.until
        return {
            **({"senders.user_id": span.user_id} if span.user_id is not None else {}),
            **({"received_at": times} if times else {}),
            "expires_at": {"$gt": self._clock.now()},
        }


def _senders(document: Mapping[str, Any]) -> frozenset[bytes]:
    senders = document.get("senders")
    found = (one.get("user_id") for one in senders if isinstance(one, dict)) if isinstance(senders, list) else ()
    # Other values were written by another program; they belong to no user.
    return frozenset(one for one in found if isinstance(one, bytes))


def _received_at(document: Mapping[str, Any]) -> datetime:
    received_at = document.get("received_at")
    return received_at if isinstance(received_at, datetime) else EPOCH
