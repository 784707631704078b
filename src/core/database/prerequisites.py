"""The checks that a process must pass to use the database: its clock is right, and its key ring is complete.

The clock of this host is compared with MongoDB's. For the keys, the database holds check values of the master keys in
use. A process that seals under a key stores the key's check value first, an HMAC under a sub-key that serves no other
purpose. With a ring that lacks a stored key, or has another key under its id, names in use would look free and stored
items could not be opened. If two processes with different rings start at once, each stores its key before it reads, so
at least one of them sees the other's.
"""

import hmac
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from pymongo.errors import DuplicateKeyError

from ..background import repeat
from ..clock import MILLISECOND, HostTime, host_time, utc_now
from ..crypto.keys import KeyRing, Purpose
from ..metrics import NOTHING, Gauge
from .mongo import Document, Indexes, Mongo, Unfit, translate_mongo_errors

MOST_APART = timedelta(seconds=5)
"""Maximum difference between the clocks; equal to the leeway of signed tokens."""
CHECK_SECONDS = 60.0
"""Seconds between two comparisons; a step of the system clock triggers one at once."""
_READINGS = 5


@dataclass(frozen=True)
class Reading:
    """How far this host's clock was ahead of MongoDB's when it was read, and the uncertainty of that."""

    offset: timedelta
    uncertainty: timedelta
    read: HostTime

    @property
    def apart(self) -> timedelta:
        """The minimum difference between the clocks."""
        return max(abs(self.offset) - self.uncertainty, timedelta(0))


async def read_clocks(mongo: Mongo, now: Callable[[], datetime] = utc_now) -> Reading:
    """Compare a clock of this host with the primary's; the reading with the shortest round trip counts.

    Raises `PyMongoError`.
    """
    readings = []
    for _ in range(_READINGS):
        read = host_time(now)
        answer = await mongo.database.command("hello", codec_options=mongo.database.codec_options)
        round_trip = timedelta(seconds=host_time().elapsed - read.elapsed)
        readings.append((round_trip, read.utc + round_trip / 2 - answer["localTime"], read))
    round_trip, offset, read = min(readings)
    # Both clocks are read in whole milliseconds.
    return Reading(offset, round_trip / 2 + MILLISECOND, read)


class ClockCheck:
    """Compares the clocks and keeps ``mongo.clock`` right. ``offset`` shows the result, in seconds."""

    def __init__(self, mongo: Mongo, offset: Gauge = NOTHING) -> None:
        self._mongo = mongo
        self._offset = offset
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Tell whether the next comparison is due."""
        return time.monotonic() >= self._due or self._mongo.clock.has_stepped

    async def require(self) -> None:
        """Compare the clocks. Raises `Unfit` if they differ by more than `MOST_APART`, and `Unavailable`."""
        self._due = time.monotonic() + CHECK_SECONDS
        with translate_mongo_errors():
            reading = await read_clocks(self._mongo)
        # On MongoDB's own host, both clocks are the same.
        self._mongo.clock.adjust(reading.offset if reading.apart else timedelta(0), reading.read)
        self._offset.set(reading.offset.total_seconds())
        if reading.apart > MOST_APART:
            direction = "ahead of" if reading.offset > timedelta(0) else "behind"
            raise Unfit(
                f"This host's clock is {abs(reading.offset.total_seconds()):.1f} s {direction} MongoDB's; at most"
                f" {MOST_APART.total_seconds():.0f} s are allowed. Synchronize the clocks of all hosts by NTP."
            )


COLLECTION = "key_checks"
INDEXES: Indexes = {COLLECTION: []}
MOST_KEYS = 1000
_MESSAGE = b"check"

log = structlog.get_logger(__name__)


class KeyChecks:
    """The check values in the database.

    ``keys_in_data`` returns the ids of keys that stored data needs and the ring lacks. It reads every collection, so it
    is called only if no check value is stored: in an empty database, or one of an older version.
    """

    def __init__(
        self, mongo: Mongo, ring: KeyRing, keys_in_data: Callable[[], Awaitable[Sequence[str]]] | None = None
    ) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._ring = ring
        self._keys_in_data = keys_in_data

    async def missing(self) -> list[str]:
        """Return the ids of keys in use that the ring lacks, or holds with another value. Raises `Unavailable`."""
        stored = await self._stored()
        if not stored and self._keys_in_data is not None:
            return sorted(await self._keys_in_data())
        return sorted(str(document["_id"]) for document in stored if not self._fits(document))

    async def require(self) -> None:
        """Store the check value of the key that seals. Raises `Unfit` if the ring lacks a key in use."""
        raise_for(await self.missing())
        with translate_mongo_errors():
            try:
                await self._collection.insert_one(
                    {"_id": self._ring.newest, "check": check_value(self._ring, self._ring.newest)}
                )
            except DuplicateKeyError:
                return
        log.info("check value of a key stored", key_id=self._ring.newest)
        # Another process may have stored a key of another ring meanwhile.
        raise_for(await self.missing())

    async def retire_all_but(self, needed: Collection[str]) -> None:
        """Delete the check values of all keys except the given ones and the one that seals.

        A ring may then lack the retired keys. Raises `Unavailable`.
        """
        with translate_mongo_errors():
            await self._collection.delete_many({"_id": {"$nin": [*needed, self._ring.newest]}})

    async def _stored(self) -> list[Document]:
        with translate_mongo_errors():
            documents: list[Document] = await self._collection.find().limit(MOST_KEYS).to_list(None)
        return documents

    def _fits(self, document: Document) -> bool:
        expected, stored = check_value(self._ring, str(document["_id"])), document.get("check")
        return expected is not None and isinstance(stored, bytes) and hmac.compare_digest(expected, stored)


def check_value(ring: KeyRing, key_id: str) -> bytes | None:
    """Return the 16-byte check value of a key, or None if the ring does not hold the key."""
    return ring.mac_under(Purpose.KEY_CHECK, key_id, _MESSAGE)


def raise_for(missing: Sequence[str]) -> None:
    """Raise `Unfit`, which lists the missing keys, if there are any."""
    if missing:
        raise Unfit(
            f"The key ring lacks keys that are in use: {', '.join(missing)}. Restore them from the backup of the key"
            " file, and restart every process."
        )


class Prerequisites:
    """Both checks: at the start, and again while the process runs."""

    def __init__(self, mongo: Mongo, *, clock: ClockCheck, keys: KeyChecks) -> None:
        self._mongo = mongo
        self._clock = clock
        self._keys = keys

    async def require(self) -> None:
        """Raise `Unfit` if a check fails, and `Unavailable`."""
        await self._clock.require()
        await self._keys.require()

    async def watch(self) -> None:
        """Repeat the checks every minute, and soon after a step of the system clock, until cancelled."""
        await repeat(self._check_when_due, every=1)

    async def _check_when_due(self) -> None:
        if self._clock.is_due:
            await self._mongo.check(self.require)
