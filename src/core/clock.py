"""Times as MongoDB stores them, in UTC to the millisecond, and MongoDB's clock, which decides what has expired."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
UNEXPIRED: dict[str, Any] = {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}
"""A filter for documents that have not expired by MongoDB's clock. No index serves it: add an indexed field."""
STEP = timedelta(seconds=1)
"""A larger change of the system clock is a step; a smaller one is drift that NTP corrects."""

# Where the system has it: a monotonic clock that includes the time the machine was suspended.
_elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


def utc_now() -> datetime:
    """Return the current time in UTC by this host's clock, truncated to milliseconds as MongoDB stores it."""
    return _in_milliseconds(datetime.now(UTC))


def milliseconds(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return (moment - EPOCH) // MILLISECOND


class HostTime(NamedTuple):
    """Readings of the clocks of this host at one moment: UTC, and seconds of a clock that is never set."""

    utc: datetime
    elapsed: float


def host_time(now: Callable[[], datetime] = utc_now) -> HostTime:
    """Read this host's clocks."""
    return HostTime(now(), _elapsed())


class DatabaseClock:
    """MongoDB's current time, extrapolated from the last comparison of the clocks.

    It advances by the monotonic clock, so a step of the system clock does not change it. Before the first comparison it
    is this host's clock.
    """

    def __init__(self) -> None:
        self._base: datetime | None = None
        self._based_at = 0.0
        self._offset = timedelta(0)

    def adjust(self, offset: timedelta, read: HostTime | None = None) -> None:
        """Set how far this host's clock was ahead of MongoDB's when it was ``read``, by default now."""
        read = read or host_time()
        self._based_at = read.elapsed
        self._base = _in_milliseconds(read.utc - offset)
        self._offset = offset

    def now(self) -> datetime:
        """Return MongoDB's current time in UTC, truncated to milliseconds."""
        if self._base is None:
            return utc_now()
        return self._base + int((_elapsed() - self._based_at) * 1000) * MILLISECOND

    @property
    def has_stepped(self) -> bool:
        """Tell whether the system clock has been set since the last comparison."""
        return self._base is not None and abs(utc_now() - self.now() - self._offset) > STEP


def _in_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
