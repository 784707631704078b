"""Limits on the content that requests store: the storage budget, and the byte budget of each caller."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from .accounts.guards import CALLER
from .api.origin import Origin
from .core.crypto.blind_index import BlindIndex
from .core.crypto.keys import KeyRing
from .core.database.limits import ByteBudget, Limit
from .core.database.mongo import Mongo
from .core.database.storage_budget import StorageBudget
from .core.metrics import Metrics
from .core.stored_files import PAYER
from .settings import Settings, parse_byte_limit


class StorageLimits:
    """Applies both budgets to requests.

    The byte budget is per account for requests with a token and for the uploads that such requests create, and per
    client network for others.
    """

    def __init__(self, storage: StorageBudget, byte_budget: ByteBudget, origin: Origin, ring: KeyRing) -> None:
        self._index = BlindIndex(ring, PAYER)
        self._storage = storage
        self._byte_budget = byte_budget
        self._origin = origin

    def admit(self) -> None:
        """Raise `StorageFull` while storage is full."""
        self._storage.admit()

    @asynccontextmanager
    async def storing(self, request: web.Request, size: int, payer: bytes | None = None) -> AsyncIterator[None]:
        """Allow the block to store ``size`` bytes. Raises `StorageFull`, `LimitReached`, `Unavailable`."""
        if caller := request.get(CALLER):
            payer = self._index.of(caller.user_id.hex())[0]
        subject = f"account {payer.hex()}" if payer else f"network {self._origin.network(request)}"
        async with self._storage.storing(size):
            await self._byte_budget.spend(subject, size)
            yield


def create_byte_budget(settings: Settings, mongo: Mongo, ring: KeyRing, metrics: Metrics) -> ByteBudget:
    """Return the byte budget that the settings configure."""
    budget, window = parse_byte_limit(settings.limit_create_bytes)
    enabled = settings.rate_limits == "on"
    limit = Limit(mongo, ring, "bytes by creator", budget, window, enabled=enabled)
    return ByteBudget(limit, mongo.clock, budget, metrics.limit_refusals.child("create_bytes"))
