"""Limits on the content that requests store: the storage budget, and the byte budget of each caller."""

from aiohttp import web

from .accounts.guards import CALLER
from .api.origin import Origin
from .core.crypto.blind_index import BlindIndex
from .core.crypto.keys import KeyRing
from .core.database.limits import ByteBudget, Limit
from .core.database.mongo import Mongo
from .core.database.storage_budget import StorageBudget, Storing
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

    def storing(self, request: web.Request, size: int, payer: bytes | None = None) -> "_Storing":
        """Allow the block to store ``size`` bytes. Raises `StorageFull`, `LimitReached`, `Unavailable`."""
        if caller := request.get(CALLER):
            payer = self._index.of(caller.user_id.hex())[0]
        subject = f"account {payer.hex()}" if payer else f"network {self._origin.network(request)}"
        return _Storing(self._storage.storing(size), self._byte_budget, subject, size)


class _Storing:
    """A block that stores content within both budgets."""

    __slots__ = ("_byte_budget", "_in_storage", "_size", "_subject")

    def __init__(self, in_storage: Storing, byte_budget: ByteBudget, subject: str, size: int) -> None:
        self._in_storage = in_storage
        self._byte_budget = byte_budget
        self._subject = subject
        self._size = size

    async def __aenter__(self) -> None:
        await self._in_storage.__aenter__()
        try:
            await self._byte_budget.spend(self._subject, self._size)
        except BaseException:
            await self._in_storage.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._in_storage.__aexit__()


def create_byte_budget(settings: Settings, mongo: Mongo, ring: KeyRing, metrics: Metrics) -> ByteBudget:
    """Return the byte budget that the settings configure."""
    budget, window = parse_byte_limit(settings.limit_create_bytes)
    enabled = settings.rate_limits == "on"
    limit = Limit(mongo, ring, "bytes by creator", budget, window, enabled=enabled)
    return ByteBudget(limit, mongo.clock, budget, metrics.limit_refusals.child("create_bytes"))
