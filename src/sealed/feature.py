"""The feature as the composition root sees it."""

from typing import Any

from ..api.origin import Origin
from ..api.routing import Guard, Route
from ..core.batching import Batching
from ..core.hashing import HashingPool
from ..core.keys import KeyRing
from ..core.mongo import Indexes, Mongo
from ..core.resealing import Expiring
from ..settings import Settings
from .attempts import AttemptStore
from .claims import ClaimStore
from .items import COLLECTION, INDEXES, State
from .routes import SealedRoutes
from .service import SecretService
from .store import ItemStore

EXPIRING = (Expiring(COLLECTION, {"state": State.WAITING.value}),)


class SealedFeature:
    """Secrets and receipts, wired; ``create_guard`` is what creating one takes, where not everybody may."""

    indexes: Indexes = INDEXES

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        hashing: HashingPool,
        batching: Batching,
        origin: Origin,
        create_guard: Guard | None = None,
    ) -> None:
        self.service = SecretService(
            settings=settings,
            ring=ring,
            hashing=hashing,
            items=ItemStore(mongo, batching),
            claims=ClaimStore(mongo, batching),
            attempts=AttemptStore(mongo),
        )
        self._routes = SealedRoutes(self.service, origin, create_guard)

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return self._routes.routes()

    async def close(self) -> None:
        """Wait for what is in flight."""
        await self.service.close()
