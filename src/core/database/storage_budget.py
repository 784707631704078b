"""The storage budget: creating pauses before the database or its disk is full, and resumes once there is room again.

Each process asks MongoDB by itself, so the budget holds for any number of workers. After each look, a process may store
a sixteenth of the room that is left, minus its requests under way; then it looks again. However fast requests come, up
to 16 processes together stay within the room.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
"""Bytes. WiredTiger creates its journal in files of 100 MB, so a disk with less than that can be full in one step."""
RESERVE_SHARE = 0.05
GROWTH_MARGIN = 32 * MIB
"""Bytes that the growth of data files leaves to the journal.

Data files never shrink, so without it a full disk would keep too little space for the journal after everything on it
has been deleted, and creating would not resume.
"""


@dataclass(frozen=True)
class Disk:
    """The disk of one MongoDB server that holds data; all sizes are in bytes.

    ``reusable`` is the space inside the data files that deleted documents have left: WiredTiger reuses it and does not
    return it to the file system. ``oplog_growth`` is the space that the oplog will still take, and ``unwritten`` the
    data that is in memory and in the journal alone. Both are None where the user of the URL may not ask for them.
    """

    total: int
    free: int
    reusable: int
    oplog_growth: int | None = None
    unwritten: int | None = None

    def reserve(self, configured: int | None) -> int:
        """Return the bytes to keep free: as configured, else 5 % of the disk within 128 MiB and 1 GiB."""
        if configured is not None:
            return configured
        return min(MOST_RESERVE, max(LEAST_RESERVE, int(self.total * RESERVE_SHARE)))

    def room(self, configured_reserve: int | None, *, margin: int = GROWTH_MARGIN) -> int:
        """Return how many bytes may still be stored; negative when the disk has less than its reserve.

        A stored byte is written twice: to the journal until the next checkpoint, and to a data file, where it may take
        reusable space. Where the oplog's growth is unknown, a third copy is assumed to go there.
        """
        left = self.free - self.reserve(configured_reserve) - (self.oplog_growth or 0) - (self.unwritten or 0)
        copies = 1 if self.oplog_growth is not None else 2
        return min(left // copies, (left + self.reusable) // (copies + 1) - margin)


@dataclass(frozen=True)
class StorageFigures:
    """Bytes of documents and indexes in the database, and the disks; no disk is known where MongoDB names no size."""

    used: int
    disks: tuple[Disk, ...]


async def read_storage_figures(mongo: Mongo) -> StorageFigures:
    """Ask MongoDB: the primary, or all shards of a sharded cluster. Raises `PyMongoError`."""
    told = await mongo.database.command("dbStats", freeStorage=1)
    growth, unwritten = await _oplog_growth(mongo), await _unwritten(mongo)
    # The router of a sharded cluster adds up sizes, but disks are full one by one.
    disks = tuple(
        Disk(
            total=int(shard["fsTotalSize"]),
            free=int(shard["fsTotalSize"] - shard["fsUsedSize"]),
            reusable=int(shard.get("freeStorageSize", 0)),
            oplog_growth=growth,
            # Of what a write changes in memory, half is the oplog's.
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
    """Return the answer to a command that only some users may give, and only some servers know."""
    try:
        answer: Document = await database.command(command, value)
    except OperationFailure as error:
        if error.timeout:
            raise
        return None
    return answer


SHARES = 16
PAUSE_ROOM, RESUME_ROOM = 32 * MIB, 64 * MIB
"""Bytes of room below which creating pauses, and at which it resumes.

A sixteenth of the first is more than any request stores. The second is higher so that creating does not start and stop
with every checkpoint.
"""
NEAR_ROOM = 1024 * MIB
NEAR_SECONDS, FAR_SECONDS = 1.0, 10.0
"""Seconds between two looks with less room than that, and otherwise."""
DOCUMENT_BYTES = 2048
"""Bytes that a document takes at most in addition to its content: its other fields, and its entries in indexes."""
WAIT_SECONDS = 0.05

Reason = Literal["max", "reserve"]
"""Which limit is reached: ``SEALPOST_STORAGE_MAX`` or ``SEALPOST_STORAGE_RESERVE``."""
_UNAUTHORIZED = 13

log = structlog.get_logger(__name__)


class StorageBudget:
    """Tells whether there is room for new content, as of the last look at MongoDB."""

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

    @asynccontextmanager
    async def storing(self, size: int) -> AsyncIterator[None]:
        """Let the block store so many bytes of content. Raises `StorageFull`, and `Unavailable`."""
        size += DOCUMENT_BYTES
        await self._wait_for_room(size)
        self._allowance -= size
        self._under_way += size
        try:
            yield
        finally:
            self._under_way -= size

    async def watch(self) -> None:
        """Look again if the last look is too old. Raises `Unavailable`."""
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
                    # The requests under way in this process use up its share; one of them ends soon.
                    await asyncio.sleep(WAIT_SECONDS)

    async def _look(self) -> None:
        self._looked_at = time.monotonic()
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
        self._allowance = self._room / SHARES - self._under_way

    def _look_away(self) -> None:
        if self._may_look:
            self._may_look = False
            log.warning("the storage budget is off: the user of the URL may not run dbStats")
        self._room = self._allowance = float("inf")

    def _decide(self, reason: Reason | None) -> None:
        if self._paused is None and reason is not None and self._room < PAUSE_ROOM:
            self._paused = reason
            log.warning("creating is paused: storage is full", reason=reason)
        elif self._paused is not None and self._room >= RESUME_ROOM:
            self._paused = None
            log.info("creating resumes: storage has room again")
        self._metrics.creating_is_paused.set(int(self.is_paused))

    def _note(self, figures: StorageFigures) -> None:
        metrics = self._metrics
        metrics.storage_used.set(figures.used)
        if figures.disks:
            metrics.storage_free.set(min(disk.free for disk in figures.disks))
            metrics.storage_reserve.set(max(disk.reserve(self._reserve) for disk in figures.disks))
        if self._room < float("inf"):
            metrics.storage_room.set(self._room)
