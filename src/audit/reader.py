"""Reads events in the order of their times, a page of records at a time, and selects them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import heappop, heappush

from pymongo import ASCENDING

from ..core.audit import AuditKind
from ..core.clock import EPOCH, MILLISECOND, milliseconds
from ..core.database.mongo import Document, Mongo, translate_mongo_errors
from .records import COLLECTION, MOST_EVENTS, SPAN, AuditSealer, Entry, begin_of, first_id

PAGE = 100
"""Records read with one command."""


@dataclass(frozen=True)
class Selection:
    """Selects events: ``since`` is inclusive, ``until`` exclusive; ``users`` also match as operators who acted."""

    since: datetime | None = None
    until: datetime | None = None
    kind: AuditKind | None = None
    users: frozenset[bytes] | None = None


class AuditReader:
    """Every query that reads audit records."""

    def __init__(self, mongo: Mongo, sealer: AuditSealer) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = sealer

    async def pages(self, selection: Selection) -> AsyncIterator[list[Entry]]:
        """Yield selected events up to now, oldest first, in lists of any length. Raises `Unavailable`."""
        since = milliseconds(selection.since or EPOCH)
        until = milliseconds(min(filter(None, (selection.until, self._clock.now()))))
        ordered, opened = _Ordered(), 0
        after = first_id(since - SPAN // MILLISECOND)
        while page := await self._page(after, first_id(until), selection.users):
            ready: list[Entry] = []
            for document in page:
                ready += ordered.before(begin_of(document))
                entries = self._sealer.open(document)
                opened += len(entries)
                if opened >= MOST_EVENTS:
                    # Let other requests continue even if no event is selected.
                    opened = 0
                    await asyncio.sleep(0)
                for entry in entries:
                    if since <= entry.at < until and _matches(entry, selection):
                        ordered.add(entry)
            yield ready
            after = page[-1]["_id"]
        yield list(ordered.before(None))

    async def _page(self, after: bytes, end: bytes, users: frozenset[bytes] | None) -> Sequence[Document]:
        query: Document = {"_id": {"$gt": after, "$lt": end}, "delete_at": {"$gt": self._clock.now()}}
        index = "_id_"
        if users is not None:
            query["user_index"] = {"$in": [one for user_id in users for one in self._sealer.index(user_id)]}
            index = "user_index"
        with translate_mongo_errors():
            found = self._collection.find(query).hint(index).sort("_id", ASCENDING).limit(PAGE)
            documents: Sequence[Document] = await found.to_list(None)
        return documents


class _Ordered:
    """Events of records that overlap in time, such as those of several workers, in the order of their times."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, int, Entry]] = []
        self._added = 0

    def add(self, entry: Entry) -> None:
        """Add an event. Those with the same time stay in the order in which they were added."""
        self._added += 1
        heappush(self._entries, (entry.at, self._added, entry))

    def before(self, begin: int | None) -> Iterator[Entry]:
        """Yield and forget the events before the begin of the next record; all of them without one."""
        while self._entries and (begin is None or self._entries[0][0] < begin):
            yield heappop(self._entries)[2]


def _matches(entry: Entry, selection: Selection) -> bool:
    return (selection.kind is None or entry.kind == selection.kind.value) and (
        selection.users is None or not selection.users.isdisjoint(entry.users)
    )
