"""Items that expire while they wait are deleted soon, and counted.

MongoDB deletes them by itself, but tells nobody. So each worker is there before it, most of the time: what a worker
deletes, it counts, and what another one has deleted, it does not find any more.
"""

import asyncio
import random

from ..core.background import repeat
from ..core.metrics import Metrics
from ..core.mongo import Mongo
from .items import KINDS
from .store import ItemStore

INTERVAL = 5.0
"""Seconds between two rounds of one worker."""


class Expiry:
    """Deletes what has expired."""

    def __init__(self, mongo: Mongo, items: ItemStore, metrics: Metrics) -> None:
        self._mongo = mongo
        self._items = items
        self._expired = {kind: metrics.items.child(kind, "expired") for kind in KINDS}

    async def watch(self) -> None:
        """Delete what has expired, again and again, until cancelled."""
        # Workers that start together take turns.
        await asyncio.sleep(random.uniform(0, INTERVAL))  # noqa: S311 (nobody gains by guessing it)
        await repeat(self._sweep_when_set_up, every=INTERVAL)

    async def sweep(self) -> int:
        """Delete what has expired and return how many this was. Raises `Unavailable`."""
        total = 0
        for kind, expired in self._expired.items():
            async for deleted in self._items.delete_expired(kind):
                expired.inc(deleted)
                total += deleted
        return total

    async def _sweep_when_set_up(self) -> None:
        if self._mongo.is_set_up:
            await self.sweep()
