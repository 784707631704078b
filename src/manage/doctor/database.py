"""MongoDB: whether it answers, is safe to write to, and has what the service needs."""

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
from ...storage import EXPIRING, INDEXES, RESEALABLE
from .connection import Connection, state_of_members
from .disk import judge_room
from .examination import LIMIT, Finding, Mark, Outcome, examine, failed, not_checked, ok, warning
from .mongodb import compare_clocks, compare_indexes, examine_patches, examine_storage

OLDEST, TESTED = (6, 0), "6.0"
SLOW_SECONDS = 0.1
_PINGS = 5
_MEMBERS_SECONDS, _MEMBERS_LOOKS = 2.0, 100
_TIDY_SECONDS = 1.0
SCAN_SECONDS = 15.0
"""How long looking through the collections may take; a large one takes longer."""
_UNAUTHORIZED = 13


async def examine_database(
    settings: Settings | None,
    ring: KeyRing | None,
    now: Callable[[], datetime] = utc_now,
    *,
    reason: str = "the settings come first",
) -> AsyncIterator[Finding]:
    """Check MongoDB, as the service would use it. ``now`` is this host's clock.

    ``reason`` says why there are no settings, where there are none.
    """
    if settings is None:
        for name in ("MongoDB", *_CHECKS):
            yield Finding(name, not_checked(reason))
        return
    connection = Connection(settings)
    try:
        connecting = await examine("MongoDB", connection.open())
        yield connecting
        if connecting.outcome.mark is not Mark.OK:
            for name in _CHECKS:
                yield Finding(name, not_checked("MongoDB has to answer first"))
            return
        database = _Database(connection, settings, ring, now)
        for name, (check, seconds) in _CHECKS.items():
            if database.silent:
                yield Finding(name, not_checked("MongoDB does not answer any more"))
            else:
                yield await examine(name, database.as_told(check), seconds)
    finally:
        await connection.close()


class _Database:
    """The checks of a MongoDB that answers."""

    def __init__(
        self, connection: Connection, settings: Settings, ring: KeyRing | None, now: Callable[[], datetime]
    ) -> None:
        self._mongo = connection.mongo
        self._settings = settings
        self._hello = connection.hello
        self._ring = ring
        self._now = now
        self.silent = False
        """Whether a command was not answered: then the others need not wait in vain, too."""

    async def as_told(self, check: "Callable[[_Database], Awaitable[Outcome]]") -> Outcome:
        """Carry out a check whose commands MongoDB may refuse, or not answer."""
        try:
            return await check(self)
        except OperationFailure as error:
            if error.code == _UNAUTHORIZED:
                return not_checked("cannot tell: the user of the URL may not ask that", "Its role should be readWrite.")
            if not error.timeout:
                return failed(f"MongoDB refused to answer (code {error.code})", "Look at MongoDB's log.")
        except PyMongoError:
            pass
        self.silent = True
        return failed("MongoDB did not answer in time", "It answered a moment ago: look at its load, and at its log.")

    async def version(self) -> Outcome:
        """Tell whether Sealpost works with this version of MongoDB."""
        told = await self._mongo.database.command("buildInfo")
        if tuple(told["versionArray"][:2]) < OLDEST:
            return failed(
                f"{told['version']} is too old",
                f"Upgrade MongoDB to {'.'.join(map(str, OLDEST))} or later, one major version after the other.",
            )
        return ok(f"{told['version']} (tested with {TESTED})")

    async def patches(self) -> Outcome:
        """Look for a known hole."""
        return await examine_patches(self._mongo)

    async def replica_set(self) -> Outcome:
        """Tell whether there is one, and how its members are, as far as this host reaches them."""
        if self._hello.get("msg") == "isdbgrid":
            return ok("a sharded cluster, through its router")
        if "setName" not in self._hello:
            return failed(
                "a standalone server, which keeps one copy of what it is told: the service does not become ready on it",
                "Start mongod with --replSet, and name the set in SEALPOST_MONGO_URL (replicaSet=NAME).",
            )
        members = await self._members()
        states = ", ".join(f"{name} {state or 'does not answer'}" for name, state in members.items())
        found = f"{self._hello['setName']}: {states}"
        if not all(members.values()) or "neither primary nor secondary" in members.values():
            return warning(
                found,
                "Bring every member back: with a majority gone, nothing is stored. One that copies data needs time.",
            )
        return ok(found)

    async def write_concern(self) -> Outcome:
        """Write something, see whether a majority acknowledges it, and take it away again.

        A document that has expired already, where MongoDB deletes those by itself: killed in between, this leaves
        nothing behind for long.
        """
        counters = self._mongo.collection(limits.COLLECTION)
        if not any("expireAfterSeconds" in index for index in (await counters.index_information()).values()):
            return not_checked(
                f"{limits.COLLECTION}, to which it would be written, lacks its TTL index", "Mend the indexes first."
            )
        document = {"_id": f"doctor {secrets.token_hex(16)}", "expireAt": self._now()}
        began = time.monotonic()
        try:
            await counters.insert_one(document)
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code == _UNAUTHORIZED:
                return failed(
                    f"the user of the URL may not write to the database {self._mongo.database.name}",
                    "Give it the role readWrite there.",
                )
            answers = await _take_away(counters, document["_id"])
            if not (error.timeout and answers):
                raise
            return failed(
                "no majority acknowledged a write in time",
                "Bring back members that hold data until they are a majority: the service stores nothing without it.",
            )
        took = time.monotonic() - began
        await _take_away(counters, document["_id"])
        return ok(f"a majority had a write in its journals within {took * 1000:.0f} ms")

    async def round_trip(self) -> Outcome:
        """Tell how long MongoDB takes to answer the least question."""
        taken = []
        for _ in range(_PINGS):
            began = time.monotonic()
            await self._mongo.database.command("ping")
            taken.append(time.monotonic() - began)
        seconds = statistics.median(taken)
        found = f"{seconds * 1000:.1f} ms, the middle one of {_PINGS}"
        if seconds < SLOW_SECONDS:
            return ok(found)
        return warning(found, "Each request waits for one at least: look at MongoDB's load, and bring it nearer.")

    async def clock(self) -> Outcome:
        """Compare clocks."""
        return await compare_clocks(self._mongo, self._now)

    async def indexes(self) -> Outcome:
        """Compare indexes."""
        return await compare_indexes(self._mongo, INDEXES)

    async def space(self) -> Outcome:
        """Tell how much room is left where MongoDB keeps its data."""
        told = await self._mongo.database.command("dbStats")
        if not told.get("fsTotalSize"):
            return not_checked("cannot tell: MongoDB does not say how large its disk is")
        return judge_room(told["fsTotalSize"] - told["fsUsedSize"], "where MongoDB keeps its data")

    async def storage(self) -> Outcome:
        """Tell how close the database is to the limits on storage."""
        return await examine_storage(self._mongo, self._settings)

    async def keys_in_use(self) -> Outcome:
        """Tell whether something is under a key that the ring does not hold."""
        if self._ring is None:
            return not_checked("the key ring comes first")
        try:
            with pymongo.timeout(SCAN_SECONDS):
                missing = await Resealing(self._mongo, self._ring, RESEALABLE, EXPIRING).missing()
        except Unavailable:
            return not_checked(
                f"cannot tell: MongoDB did not look through its collections within {SCAN_SECONDS:g} s",
                "`keys list` takes more time for that.",
            )
        if missing:
            return failed(
                f"the ring does not hold {', '.join(map(_count, missing))}",
                "Put the key back into the ring, and restart every process: what is under it cannot be opened.",
            )
        return ok("the ring holds every key that something is under")

    async def shared_settings(self) -> Outcome:
        """Compare the settings that all processes on the database must share with those of this host."""
        if self._ring is None:
            return not_checked("the key ring comes first")
        try:
            found = await SharedSettings(self._mongo, self._settings, self._ring, "doctor").differences()
        except Unavailable:
            return not_checked("cannot tell: MongoDB did not answer")
        if differing := [f"{', '.join(names)} on {host}" for host, names in found.items() if names]:
            return warning(
                f"other values than here: {'; '.join(differing)}",
                "Give all hosts the same values, and restart their processes: docs/operations.md, Several hosts.",
            )
        return ok(f"alike on {', '.join(found)}" if found else "no process runs on this database")

    async def _members(self) -> dict[str, str | None]:
        """Return the state of each member, once the driver has asked all of them, or has waited long enough."""
        for _ in range(_MEMBERS_LOOKS):
            if all((members := state_of_members(self._mongo)).values()):
                break
            await asyncio.sleep(_MEMBERS_SECONDS / _MEMBERS_LOOKS)
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


async def _take_away(collection: Any, document_id: object) -> bool:
    """Delete a document without waiting for a majority, and tell whether MongoDB answered."""
    try:
        with pymongo.timeout(_TIDY_SECONDS):
            await collection.with_options(write_concern=WriteConcern(1)).delete_one({"_id": document_id})
    except PyMongoError:
        return False
    return True


def _count(use: KeyUse) -> str:
    counts = [f"{name} {number}" for name, number in {**use.sealed, **use.waiting}.items()]
    return f"{use.key_id or '(no key id)'} ({', '.join(counts)})"
