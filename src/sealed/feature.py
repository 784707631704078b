"""Wires secrets, messages and receipts together."""

from datetime import timedelta
from typing import Any

from ..api.origin import Origin
from ..api.pages import PageMaker
from ..api.routing import Guard, Route, Shell
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.database.group_commit import Batching
from ..core.database.mongo import Indexes, Mongo
from ..core.database.resealing import Expiring
from ..core.metrics import Metrics
from ..settings import Settings
from . import holds, items
from .attempts import AttemptStore
from .claims import ClaimStore
from .creation import ItemCreator
from .holds import HoldStore
from .items import ItemState
from .receipts import ReceiptService
from .routes import MessageRoutes, ReceiptRoutes, SecretRoutes
from .service import MessageService, SecretService, Unsealer
from .store import ItemStore

INDEXES: Indexes = {**items.INDEXES, **holds.INDEXES}
EXPIRING = (Expiring(items.COLLECTION, {"state": ItemState.WAITING.value}), Expiring(holds.COLLECTION, {}))


class SealedFeature:
    """Secrets, messages and receipts.

    ``create_secret`` and ``create_message`` guard creation unless everyone may create. ``shell`` answers a browser that
    asks for a secret's status, and ``message_page`` renders a message for a browser.
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
        self._holds = HoldStore(mongo, batching, timedelta(seconds=settings.hold), metrics.damaged)
        self._attempts = AttemptStore(mongo, metrics.damaged)
        self.creator = ItemCreator(
            settings=settings, ring=ring, clock=mongo.clock, hashing=hashing, items=self._items, metrics=metrics
        )
        unsealer = Unsealer(ring, metrics.damaged)
        secrets = SecretService(
            ring=ring,
            unsealer=unsealer,
            hashing=hashing,
            items=self._items,
            claims=self._claims,
            holds=self._holds,
            attempts=self._attempts,
            clock=mongo.clock,
            metrics=metrics,
        )
        messages = MessageService(unsealer=unsealer, items=self._items, metrics=metrics)
        self._parts = (
            SecretRoutes(creator=self.creator, service=secrets, origin=origin, create_guard=create_secret, shell=shell),
            MessageRoutes(
                creator=self.creator,
                service=messages,
                items=self._items,
                origin=origin,
                create_guard=create_message,
                page=message_page,
            ),
            ReceiptRoutes(ReceiptService(ring, mongo.clock, self._items, self._holds, metrics)),
        )

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        return [route for part in self._parts for route in part.routes()]

    async def close(self) -> None:
        """Wait for the commands in flight."""
        for store in (self._items, self._claims, self._holds, self._attempts):
            await store.close()
