"""Times as MongoDB keeps them: in UTC, to the millisecond; and MongoDB's time, which lifetimes go by."""

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
UNEXPIRED: dict[str, Any] = {"$expr": {"$gt": ["$expires_at", "$$NOW"]}}
"""The filter for documents that have not expired, by MongoDB's own clock. It needs an index on something else."""
STEP = timedelta(seconds=1)
"""Above this, a change of the system clock is a step, and not the drift that NTP evens out."""

# Counts the time that the machine was suspended too, where the system has such a clock.
_elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
)


def utc_now() -> datetime:
    """Return the present time in UTC by this host's clock, in the milliseconds that MongoDB keeps."""
    return _in_milliseconds(datetime.now(UTC))


def milliseconds(moment: datetime) -> int:
    """Return a moment in milliseconds since 1970."""
    return (moment - EPOCH) // MILLISECOND


class DatabaseClock:
    """MongoDB's time, continued from the last comparison of the clocks.

    It runs on the time elapsed since then, so that a step of the system clock does not change it. Before the first
    comparison it is this host's clock.
    """

    def __init__(self) -> None:
        self._base: datetime | None = None
        self._based_at = 0.0
        self._offset = timedelta(0)

    def adjust(self, offset: timedelta) -> None:
        """Take over by how much this host's clock is ahead of MongoDB's now."""
        self._based_at = _elapsed()
        self._base = datetime.now(UTC) - offset
        self._offset = offset

    def now(self) -> datetime:
        """Return MongoDB's present time in UTC, in milliseconds."""
        if self._base is None:
            return utc_now()
        return _in_milliseconds(self._base + timedelta(seconds=_elapsed() - self._based_at))

    @property
    def has_stepped(self) -> bool:
        """Tell whether the system clock has been set since the last comparison."""
        return self._base is not None and abs(utc_now() - self.now() - self._offset) > STEP


def _in_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
