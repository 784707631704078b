"""When a process may use the database: its clock is right, and its ring holds every key in use."""

from ..background import repeat
from .clock_check import ClockCheck
from .key_checks import KeyChecks
from .mongo import Mongo


class Prerequisites:
    """Requires all of them at the start, and keeps checking them."""

    def __init__(self, mongo: Mongo, *, clock: ClockCheck, keys: KeyChecks) -> None:
        self._mongo = mongo
        self._clock = clock
        self._keys = keys

    async def require(self) -> None:
        """Raise `Unfit` where one of them does not hold, and `Unavailable`."""
        await self._clock.require()
        await self._keys.require()

    async def watch(self) -> None:
        """Check again every minute, and soon after the system clock has been set, until cancelled."""
        await repeat(self._check_when_due, every=1)

    async def _check_when_due(self) -> None:
        if self._clock.is_due:
            await self._mongo.check(self.require)
