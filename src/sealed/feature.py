"""The feature as the composition root sees it."""

from typing import Any

from ..api.origin import Origin
from ..api.pages import PageMaker
from ..api.routing import Guard, Route, Shell
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.database.group_commit import Batching
from ..core.database.mongo import Mongo
from ..core.database.resealing import Expiring
from ..core.metrics import Metrics
from ..settings import Settings
from .attempts import AttemptStore
from .claims import ClaimStore
from .creation import ItemCreator
from .items import COLLECTION, State
from .message_routes import MessageRoutes
from .message_service import MessageService
from .receipt_routes import ReceiptRoutes
from .receipts import ReceiptService
from .routes import SecretRoutes
from .service import SecretService
from .store import ItemStore

EXPIRING = (Expiring(COLLECTION, {"state": State.WAITING.value}),)


class SealedFeature:
    """Secrets, messages and receipts, wired.

    ``create_secret`` and ``create_message`` are what creating one takes, where not everybody may. ``shell`` is what a
    browser gets in place of what is known of a secret, and ``message_page`` makes what it gets of a message.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        hashing: HashingPool,
        batching: Batching,
        origin: Origin,
        metrics: Metrics,
        create_secret: Guard | None = None,
        create_message: Guard | None = None,
        shell: Shell | None = None,
        message_page: PageMaker | None = None,
    ) -> None:
        self._items = ItemStore(mongo, batching, metrics.damaged)
        self._claims = ClaimStore(mongo, batching)
        creator = ItemCreator(
            settings=settings, ring=ring, clock=mongo.clock, hashing=hashing, items=self._items, metrics=metrics
        )
        self.secrets = SecretService(
            ring=ring,
            hashing=hashing,
            creator=creator,
            items=self._items,
            claims=self._claims,
            attempts=AttemptStore(mongo, metrics.damaged),
            metrics=metrics,
        )
        messages = MessageService(ring=ring, creator=creator, items=self._items, metrics=metrics)
        self._parts = (
            SecretRoutes(self.secrets, origin, create_secret, shell),
            MessageRoutes(messages, origin, create_message, message_page),
            ReceiptRoutes(ReceiptService(ring, mongo.clock, self._items, metrics)),
        )

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return [route for part in self._parts for route in part.routes()]

    async def close(self) -> None:
        """Wait for what is in flight."""
        await self._items.close()
        await self._claims.close()
