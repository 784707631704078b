"""The clocks of this host and of MongoDB's."""

from collections.abc import Callable
from datetime import datetime, timedelta

from ...core.database.clock_check import MOST_APART, read_clocks
from ...core.database.mongo import Mongo
from .findings import Outcome, failed, ok, warning

WARNED_APART = timedelta(seconds=1)


async def compare_clocks(mongo: Mongo, now: Callable[[], datetime]) -> Outcome:
    """Tell how far the clocks are apart. Raises `PyMongoError`."""
    reading = await read_clocks(mongo, now)
    which = "behind" if reading.offset > timedelta(0) else "ahead of"
    found = (
        f"MongoDB's is {abs(reading.offset.total_seconds()):.3f} s {which} this host's,"
        f" give or take {reading.uncertainty.total_seconds():.3f} s"
    )
    if reading.apart <= WARNED_APART:
        return ok(found)
    if reading.apart <= MOST_APART:
        return warning(found, "Synchronize the clocks of all hosts by NTP: beyond 5 s, a process is not ready.")
    return failed(found, "Synchronize the clocks of all hosts by NTP: no process on this host is ready.")
