"""The space that the database uses and that its disks have left, as MongoDB reports it."""

from dataclasses import dataclass
from typing import Any

from pymongo.errors import OperationFailure

from .mongo import Document, Mongo

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
