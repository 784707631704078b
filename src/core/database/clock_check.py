"""The comparison of this host's clock with MongoDB's: a process whose clock is wrong must write nothing."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..clock import MILLISECOND, utc_now
from ..metrics import NOTHING, Gauge
from .mongo import Mongo, Unfit, answering

MOST_APART = timedelta(seconds=5)
"""How far the clocks may be apart. The leeway of signed tokens is as long."""
CHECK_SECONDS = 60.0
"""Seconds between two comparisons, unless the system clock has been set meanwhile."""
_READINGS = 5


@dataclass(frozen=True)
class Reading:
    """By how much this host's clock is ahead of MongoDB's, and by how much that may be wrong."""

    offset: timedelta
    uncertainty: timedelta

    @property
    def apart(self) -> timedelta:
        """How far apart the clocks are at least."""
        return max(abs(self.offset) - self.uncertainty, timedelta(0))


async def read_clocks(mongo: Mongo, now: Callable[[], datetime] = utc_now) -> Reading:
    """Compare a clock of this host with the primary's: of several readings, the one with the quickest answer.

    Raises `PyMongoError`.
    """
    readings = []
    for _ in range(_READINGS):
        asked, began = now(), time.monotonic()
        answer = await mongo.database.command("hello", codec_options=mongo.database.codec_options)
        round_trip = timedelta(seconds=time.monotonic() - began)
        readings.append((round_trip, asked + round_trip / 2 - answer["localTime"]))
    round_trip, offset = min(readings)
    # Both clocks are read in whole milliseconds.
    return Reading(offset, round_trip / 2 + MILLISECOND)


class ClockCheck:
    """Compares the clocks and keeps ``mongo.clock`` right. ``offset`` shows the result, in seconds."""

    def __init__(self, mongo: Mongo, offset: Gauge = NOTHING) -> None:
        self._mongo = mongo
        self._offset = offset
        self._due = 0.0

    @property
    def is_due(self) -> bool:
        """Tell whether it is time for the next comparison."""
        return time.monotonic() >= self._due or self._mongo.clock.has_stepped

    async def require(self) -> None:
        """Compare the clocks. Raises `Unfit` where they are further apart than `MOST_APART`, and `Unavailable`."""
        self._due = time.monotonic() + CHECK_SECONDS
        with answering():
            reading = await read_clocks(self._mongo)
        # On MongoDB's own host, its time is exactly this host's.
        self._mongo.clock.adjust(reading.offset if reading.apart else timedelta(0))
        self._offset.set(reading.offset.total_seconds())
        if reading.apart > MOST_APART:
            direction = "ahead of" if reading.offset > timedelta(0) else "behind"
            raise Unfit(
                f"This host's clock is {abs(reading.offset.total_seconds()):.1f} s {direction} MongoDB's; at most"
                f" {MOST_APART.total_seconds():.0f} s are allowed. Synchronize the clocks of all hosts by NTP."
            )
