"""The storage budget: creating pauses before the database or its disk is full, and resumes when there is space again.

Each process asks MongoDB by itself. After each check, a process may store 1/16 of the remaining space, minus its
requests in progress; then it checks again. So up to 16 processes stay within the space at any request rate.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from pymongo.errors import OperationFailure

from ...errors import StorageFull
from ...settings import Settings
from ..metrics import Metrics
from .mongo import Document, Mongo, translate_mongo_errors

MIB = 1024 * 1024
LEAST_RESERVE, MOST_RESERVE = 128 * MIB, 1024 * MIB
"""Bytes. WiredTiger creates journal files of 100 MB, so a disk with less free space can become full at once."""
RESERVE_SHARE = 0.05
GROWTH_MARGIN = 32 * MIB
"""Bytes that the growth of data files leaves to the journal.

Data files never shrink. Without this margin, a full disk would have too little space for the journal even after all
documents were deleted, and creating would not resume.
"""


@dataclass(frozen=True)
class Disk:
    """The disk of one MongoDB server that holds data; all sizes are in bytes.

    ``reusable`` is the space of deleted documents inside the data files, which WiredTiger reuses but does not return to
    the file system. ``oplog_growth`` is the space that the oplog may still use, and ``unwritten`` the data that is only
    in memory and in the journal. Both are None if the database user may not read them.
    """

    total: int
    free: int
    reusable: int
    oplog_growth: int | None = None
    unwritten: int | None = None

    def reserve(self, configured: int | None) -> int:
        """Return the bytes to keep free: as configured, or else 5 % of the disk, from 128 MiB to 1 GiB."""
        if configured is not None:
            return configured
        return min(MOST_RESERVE, max(LEAST_RESERVE, int(self.total * RESERVE_SHARE)))

    def room(self, configured_reserve: int | None, *, margin: int = GROWTH_MARGIN) -> int:
        """Return how many bytes may still be stored; negative if the disk has less than its reserve.

        A stored byte is written twice: to the journal until the next checkpoint, and to a data file, where it may use
        reusable space. If the oplog's growth is unknown, a third copy is assumed.
        """
        left = self.free - self.reserve(configured_reserve) - (self.oplog_growth or 0) - (self.unwritten or 0)
        copies = 1 if self.oplog_growth is not None else 2
        return min(left // copies, (left + self.reusable) // (copies + 1) - margin)


@dataclass(frozen=True)
class StorageFigures:
    """Bytes of documents and indexes in the database, and the disks whose sizes MongoDB reports."""

    used: int
    disks: tuple[Disk, ...]


async def read_storage_figures(mongo: Mongo) -> StorageFigures:
    """Query the primary, or all shards of a sharded cluster. Raises `PyMongoError`."""
    told = await mongo.database.command("dbStats", freeStorage=1)
    growth, unwritten = await _oplog_growth(mongo), await _unwritten(mongo)
    # The router of a sharded cluster sums up sizes, but each disk fills by itself.
    disks = tuple(
        Disk(
            total=int(shard["fsTotalSize"]),
            free=int(shard["fsTotalSize"] - shard["fsUsedSize"]),
            reusable=int(shard.get("freeStorageSize", 0)),
            oplog_growth=growth,
            # Half of the memory that a write changes belongs to the oplog.
            unwritten=None if unwritten is None else unwritten // 2,
        )
        for shard in told.get("raw", {"": told}).values()
        if shard.get("fsTotalSize")
    )
    used = told["dataSize"] + told["indexSize"] - told.get("indexFreeStorageSize", 0)
    return StorageFigures(used=int(used), disks=disks)


async def _oplog_growth(mongo: Mongo) -> int | None:
    oplog = await _told(mongo.database.client["local"], "collStats", "oplog.rs")
    if oplog is None or "maxSize" not in oplog:
        return None
    return max(0, int(oplog["maxSize"] - oplog["storageSize"]))


async def _unwritten(mongo: Mongo) -> int | None:
    status = await _told(mongo.database.client["admin"], "serverStatus", 1)
    cache = (status or {}).get("wiredTiger", {}).get("cache", {})
    dirty = cache.get("tracked dirty bytes in the cache")
    return None if dirty is None else int(dirty)


async def _told(database: Any, command: str, value: Any) -> Document | None:
    """Return the answer to a command, or nothing if the user may not run it or the server lacks it."""
    try:
        answer: Document = await database.command(command, value)
    except OperationFailure as error:
        if error.timeout:
            raise
        return None
    return answer


SHARES = 16
PAUSE_ROOM, RESUME_ROOM = 32 * MIB, 64 * MIB
"""Bytes of space below which creating pauses, and from which it resumes.

1/16 of the first is more than any request stores. The second is higher so that creating does not pause and resume with
every checkpoint.
"""
NEAR_ROOM = 1024 * MIB
NEAR_SECONDS, FAR_SECONDS = 1.0, 10.0
"""Seconds between two checks with less space than that, and with more."""
SCARCE_ROOM = 256 * MIB
"""Bytes of space below which a process may store at most 1/16 of `PAUSE_ROOM` between two checks.

So what all processes may still store fits into `PAUSE_ROOM`, even if most of them checked when there was more space.
"""
DOCUMENT_BYTES = 2048
"""Maximum bytes of a document in addition to its content: other fields, and index entries."""
WAIT_SECONDS = 0.05

Reason = Literal["max", "reserve"]
"""Which limit is reached: ``SEALPOST_STORAGE_MAX`` or ``SEALPOST_STORAGE_RESERVE``."""
_UNAUTHORIZED = 13

log = structlog.get_logger(__name__)


class Storing:
    """A block that stores content within a budget. Every request enters one, so it is no generator."""

    __slots__ = ("_budget", "_size")

    def __init__(self, budget: "StorageBudget", size: int) -> None:
        self._budget = budget
        self._size = size

    async def __aenter__(self) -> None:
        await self._budget.begin(self._size)

    async def __aexit__(self, *_: object) -> None:
        self._budget.end(self._size)


class StorageBudget:
    """Decides whether new content may be stored, by the last check of MongoDB."""

    def __init__(self, mongo: Mongo, settings: Settings, metrics: Metrics) -> None:
        self._mongo = mongo
        self._max = settings.storage_max
        self._reserve = settings.storage_reserve
        self._metrics = metrics
        self._refusals = {
            "max": metrics.storage_refusals.child("max"),
            "reserve": metrics.storage_refusals.child("reserve"),
        }
        self._paused: Reason | None = None
        self._room = 0.0
        self._allowance = 0.0
        self._under_way = 0
        self._begun = 0
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._may_look = True
        metrics.storage_max.set(self._max)

    @property
    def is_paused(self) -> bool:
        """Tell whether creating is paused."""
        return self._paused is not None

    def admit(self) -> None:
        """Raise `StorageFull` while creating is paused."""
        if self._paused is not None:
            self._refusals[self._paused].inc()
            raise StorageFull

    def storing(self, size: int) -> Storing:
        """Let the block store ``size`` bytes of content. Raises `StorageFull`, and `Unavailable`."""
        return Storing(self, size + DOCUMENT_BYTES)

    async def begin(self, size: int) -> None:
        """Begin to store ``size`` bytes, until `end`. Raises `StorageFull`, and `Unavailable`."""
        await self._wait_for_room(size)
        self._allowance -= size
        self._under_way += size
        self._begun += size

    def end(self, size: int) -> None:
        """End what `begin` has begun."""
        self._under_way -= size

    async def watch(self) -> None:
        """Check again if the last check is too old. Raises `Unavailable`."""
        every = NEAR_SECONDS if self._room < NEAR_ROOM else FAR_SECONDS
        if self._mongo.is_set_up and time.monotonic() - self._looked_at >= every:
            async with self._looking:
                await self._look()

    async def _wait_for_room(self, size: int) -> None:
        self.admit()
        if size <= self._allowance:
            return
        async with self._looking:
            while size > self._allowance:
                await self._look()
                self.admit()
                if size > self._allowance:
                    # Requests in progress use up the share of this process; one of them ends soon.
                    await asyncio.sleep(WAIT_SECONDS)

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
        # What ends while MongoDB answers may be missing in its figures, so it counts as not yet stored.
        ended_before = self._begun - self._under_way
        with translate_mongo_errors():
            try:
                figures = await read_storage_figures(self._mongo)
            except OperationFailure as error:
                if error.timeout or error.code != _UNAUTHORIZED:
                    raise
                self._look_away()
                return
        self._room = float("inf")
        reason: Reason | None = None
        if self._max:
            self._room, reason = self._max - figures.used, "max"
        for disk in figures.disks:
            room = disk.room(self._reserve)
            if room < self._room:
                self._room, reason = room, "reserve"
        self._note(figures)
        self._decide(reason)
        share = (self._room if self._room >= SCARCE_ROOM else min(self._room, PAUSE_ROOM)) / SHARES
        self._allowance = share - (self._begun - ended_before)

    def _look_away(self) -> None:
        if self._may_look:
            self._may_look = False
            log.warning("storage limits are off: the MongoDB user may not run dbStats")
        self._room = self._allowance = float("inf")

    def _decide(self, reason: Reason | None) -> None:
        if self._paused is None and reason is not None and self._room < PAUSE_ROOM:
            self._paused = reason
            log.warning("creation paused: storage is full", reason=reason)
        elif self._paused is not None and self._room >= RESUME_ROOM:
            self._paused = None
            log.info("creation resumed: storage has space again")
        self._metrics.creating_is_paused.set(int(self.is_paused))

    def _note(self, figures: StorageFigures) -> None:
        metrics = self._metrics
        metrics.storage_used.set(figures.used)
        if figures.disks:
            metrics.storage_free.set(min(disk.free for disk in figures.disks))
            metrics.storage_reserve.set(max(disk.reserve(self._reserve) for disk in figures.disks))
        if self._room < float("inf"):
            metrics.storage_room.set(self._room)
