"""Run the checks of MongoDB, from its version to the keys in use."""

import asyncio
import secrets
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from typing import Any

import pymongo
from pymongo import WriteConcern
from pymongo.errors import OperationFailure, PyMongoError

from ...core.clock import utc_now
from ...core.crypto.keys import KeyRing
from ...core.database import limits
from ...core.database.resealing import KeyUse, Resealing
from ...core.database.shared_settings import SharedSettings
from ...errors import Unavailable
from ...settings import Settings
from ...storage import EXPIRING, RESEALABLE, needed_indexes
from .disk import judge_free_space
from .examination import LIMIT, Finding, Outcome, Status, examine, failed, not_checked, ok, warning
from .mongo_connection import MongoConnection, member_states
from .mongodb import compare_clocks, compare_indexes, examine_patches, examine_storage

OLDEST, TESTED = (6, 0), "6.0"
SLOW_SECONDS = 0.1
_PINGS = 5
_MEMBERS_SECONDS, _MEMBERS_POLLS = 2.0, 100
_DELETE_SECONDS = 1.0
SCAN_SECONDS = 15.0
"""Time limit of the scan; a large collection takes longer."""
_UNAUTHORIZED = 13


async def examine_database(
    settings: Settings | None,
    ring: KeyRing | None,
    now: Callable[[], datetime] = utc_now,
    *,
    reason: str = "the settings are invalid",
) -> AsyncIterator[Finding]:
    """Check MongoDB with the settings of the service. ``now`` is the clock of this host.

    If ``settings`` is None, nothing is checked, for the given ``reason``.
    """
    if settings is None:
        for name in ("MongoDB", *_CHECKS):
            yield Finding(name, not_checked(reason))
        return
    connection = MongoConnection(settings)
    try:
        connecting = await examine("MongoDB", connection.open())
        yield connecting
        if connecting.outcome.status is not Status.OK:
            for name in _CHECKS:
                yield Finding(name, not_checked("there is no connection to MongoDB"))
            return
        database = _Database(connection, settings, ring, now)
        for name, (check, seconds) in _CHECKS.items():
            if database.has_timed_out:
                yield Finding(name, not_checked("MongoDB stopped answering"))
            else:
                yield await examine(name, database.run_check(check), seconds)
    finally:
        await connection.close()


class _Database:
    """The checks of a connected MongoDB."""

    def __init__(
        self, connection: MongoConnection, settings: Settings, ring: KeyRing | None, now: Callable[[], datetime]
    ) -> None:
        self._mongo = connection.mongo
        self._settings = settings
        self._hello = connection.hello
        self._ring = ring
        self._now = now
        self.has_timed_out = False
        """Whether a command timed out; the remaining checks are then skipped."""

    async def run_check(self, check: "Callable[[_Database], Awaitable[Outcome]]") -> Outcome:
        """Run a check, and translate the errors of its commands to an outcome."""
        try:
            return await check(self)
        except OperationFailure as error:
            if error.code == _UNAUTHORIZED:
                return not_checked(
                    "the MongoDB user lacks the privilege for this check", "Grant it the role readWrite."
                )
            if not error.timeout:
                return failed(f"MongoDB rejected the command (code {error.code})", "See the log of MongoDB.")
        except PyMongoError:
            pass
        self.has_timed_out = True
        return failed("MongoDB did not answer in time", "It answered a moment ago: check its load and its log.")

    async def version(self) -> Outcome:
        """Check whether Sealpost supports this version of MongoDB."""
        build = await self._mongo.database.command("buildInfo")
        if tuple(build["versionArray"][:2]) < OLDEST:
            return failed(
                f"{build['version']} is too old",
                f"Upgrade MongoDB to {'.'.join(map(str, OLDEST))} or later, one major version after the other.",
            )
        return ok(f"{build['version']} (tested with {TESTED})")

    async def patches(self) -> Outcome:
        """Check for a known vulnerability."""
        return await examine_patches(self._mongo)

    async def replica_set(self) -> Outcome:
        """Check that MongoDB is a replica set, and the state of its members as seen from this host."""
        if self._hello.get("msg") == "isdbgrid":
            return warning(
                "a sharded cluster, which is not supported",
                "Use a replica set, or at least do not shard the collection items: see docs/sharding.md.",
            )
        if "setName" not in self._hello:
            return failed(
                "a standalone server, which keeps only one copy of the data: the service does not become ready",
                "Start mongod with --replSet, and name the set in SEALPOST_MONGO_URL (replicaSet=NAME).",
            )
        members = await self._members()
        states = ", ".join(f"{name} {state or 'does not answer'}" for name, state in members.items())
        found = f"{self._hello['setName']}: {states}"
        if not all(members.values()) or "neither primary nor secondary" in members.values():
            return warning(
                found,
                "Restore every member: without a majority, nothing is stored. Initial sync takes time.",
            )
        return ok(found)

    async def write_concern(self) -> Outcome:
        """Write a document, check whether a majority acknowledges it, and delete it.

        The document has already expired and its collection has a TTL index, so MongoDB deletes it if this process is
        killed.
        """
        counters = self._mongo.collection(limits.COLLECTION)
        if not any("expireAfterSeconds" in index for index in (await counters.index_information()).values()):
            return not_checked(
                f"the collection {limits.COLLECTION}, used for the test write, lacks its TTL index",
                "Repair the indexes first.",
            )
        document = {"_id": f"doctor {secrets.token_hex(16)}", "expireAt": self._now()}
        began = time.monotonic()
        try:
            await counters.insert_one(document)
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED:
                return failed(
                    f"the MongoDB user may not write to the database {self._mongo.database.name}",
                    "Grant it the role readWrite on that database.",
                )
            answers = await _delete(counters, document["_id"])
            if not (error.timeout and answers):
                raise
            return failed(
                "no majority acknowledged a write in time",
                "Restore a majority of the data-bearing members: without it, the service stores nothing.",
            )
        took = time.monotonic() - began
        await _delete(counters, document["_id"])
        return ok(f"a majority journaled a write within {took * 1000:.0f} ms")

    async def round_trip(self) -> Outcome:
        """Measure the round-trip time of a ping."""
        taken = []
        for _ in range(_PINGS):
            began = time.monotonic()
            await self._mongo.database.command("ping")
            taken.append(time.monotonic() - began)
        seconds = statistics.median(taken)
        found = f"{seconds * 1000:.1f} ms, the median of {_PINGS}"
        if seconds < SLOW_SECONDS:
            return ok(found)
        return warning(found, "Each request waits for at least one: check the load of MongoDB and the network latency.")

    async def clock(self) -> Outcome:
        """Compare the clocks of MongoDB and this host."""
        return await compare_clocks(self._mongo, self._now)

    async def indexes(self) -> Outcome:
        """Compare the indexes with those that the features that are on need."""
        return await compare_indexes(self._mongo, needed_indexes(self._settings))

    async def space(self) -> Outcome:
        """Check the free space on the disk of MongoDB."""
        stats = await self._mongo.database.command("dbStats")
        if not stats.get("fsTotalSize"):
            return not_checked("MongoDB does not report the size of its disk")
        return judge_free_space(stats["fsTotalSize"] - stats["fsUsedSize"], "on the disk of MongoDB")

    async def storage(self) -> Outcome:
        """Compare the storage used with the storage limits."""
        return await examine_storage(self._mongo, self._settings)

    async def keys_in_use(self) -> Outcome:
        """Check whether data is encrypted with a key that is not in the key ring."""
        if self._ring is None:
            return not_checked("the key ring cannot be read")
        try:
            with pymongo.timeout(SCAN_SECONDS):
                missing = await Resealing(self._mongo, self._ring, RESEALABLE, EXPIRING).missing()
        except Unavailable:
            return not_checked(
                f"scanning the collections took longer than {SCAN_SECONDS:g} s",
                "Run `keys list`, which has no time limit.",
            )
        if missing:
            return failed(
                f"keys missing from the key ring: {', '.join(map(_count, missing))}",
                "Put the key back into the key ring and restart every process: its data cannot be decrypted.",
            )
        return ok("the key ring holds every key in use")

    async def shared_settings(self) -> Outcome:
        """Compare this host's settings with those of other processes, as far as all must share them."""
        if self._ring is None:
            return not_checked("the key ring cannot be read")
        try:
            found = await SharedSettings(self._mongo, self._settings, self._ring, "doctor").differences()
        except Unavailable:
            return not_checked("MongoDB did not answer")
        if differing := [f"{', '.join(names)} on {host}" for host, names in found.items() if names]:
            return warning(
                f"settings differ from this host: {'; '.join(differing)}",
                "Use the same values on all hosts and restart their processes: docs/operations.md, Several hosts.",
            )
        return ok(f"identical on {', '.join(found)}" if found else "no process is using this database")

    async def _members(self) -> dict[str, str | None]:
        """Return the state of each member once all are known, or after a time limit."""
        for _ in range(_MEMBERS_POLLS):
            if all((members := member_states(self._mongo)).values()):
                break
            await asyncio.sleep(_MEMBERS_SECONDS / _MEMBERS_POLLS)
        return members


_CHECKS: dict[str, tuple[Callable[[_Database], Awaitable[Outcome]], float]] = {
    "MongoDB version": (_Database.version, LIMIT),
    "MongoDB patches": (_Database.patches, LIMIT),
    "replica set": (_Database.replica_set, LIMIT),
    "write concern": (_Database.write_concern, LIMIT),
    "round trip": (_Database.round_trip, LIMIT),
    "clock": (_Database.clock, LIMIT),
    "indexes": (_Database.indexes, LIMIT),
    "MongoDB space": (_Database.space, LIMIT),
    "storage": (_Database.storage, LIMIT),
    "shared settings": (_Database.shared_settings, LIMIT),
    "keys in use": (_Database.keys_in_use, SCAN_SECONDS + 1),
}


async def _delete(collection: Any, document_id: object) -> bool:
    """Delete a document without waiting for a majority, and return whether MongoDB answered."""
    try:
        with pymongo.timeout(_DELETE_SECONDS):
            await collection.with_options(write_concern=WriteConcern(1)).delete_one({"_id": document_id})
    except PyMongoError:
        return False
    return True


def _count(use: KeyUse) -> str:
    counts = [f"{name} {number}" for name, number in {**use.sealed, **use.waiting}.items()]
    return f"{use.key_id or '(no key id)'} ({', '.join(counts)})"
