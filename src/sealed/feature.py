"""Wires secrets, messages and receipts together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from ..accounts.auth import Authenticator, Scope
from ..accounts.guards import BearerGuard
from ..api.features import Feature
from ..api.origin import Origin
from ..api.pages import PageMaker
from ..api.routing import Route, Shell
from ..core.audit import Audit
from ..core.background import background_tasks, repeat
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.database.group_commit import Batching
from ..core.database.mongo import Indexes, Mongo
from ..core.database.resealing import Expiring, Resealable
from ..core.metrics import Metrics
from ..core.stored_files import FileStorage
from ..settings import Settings
from . import holds, items, kept_items
from .attempts import AttemptStore
from .claims import ClaimStore
from .creation import ItemCreator
from .download_routes import DownloadRoutes
from .downloads import Downloads
from .ended_files import SWEEP_SECONDS, EndedFiles
from .held_files import HeldFiles
from .holds import HoldStore
from .items import ItemState
from .kept_items import KeptItemStore
from .messages import MessageService
from .my_item_routes import MyItemRoutes
from .my_items import MyItems
from .receipts import ReceiptService
from .routes import MessageRoutes, ReceiptRoutes, SecretRoutes
from .service import SecretService
from .store import ItemStore
from .unsealing import Unsealer

INDEXES: Indexes = {**items.INDEXES, **holds.INDEXES}
INDEXES_WITH_ACCOUNTS: Indexes = kept_items.INDEXES
RESEALABLE: tuple[Resealable, ...] = (kept_items.RESEALABLE,)
EXPIRING = (Expiring(items.COLLECTION, {"state": ItemState.WAITING.value}), Expiring(holds.COLLECTION, {}))


class SealedFeature(Feature):
    """Secrets, messages and receipts.

    ``shell`` answers a browser that asks for a secret's status, and ``message_page`` renders a message for a browser.
    ``storage`` has the files. Without ``authenticator`` there are no accounts: everyone may create.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        hashing: HashingPool,
        batching: Batching,
        storage: FileStorage,
        origin: Origin,
        metrics: Metrics,
        audit: Audit,
        authenticator: Authenticator | None = None,
        shell: Shell | None = None,
        message_page: PageMaker | None = None,
    ) -> None:
        self._mongo = mongo
        file_duration = timedelta(seconds=settings.file_hold)
        self._ended_files = EndedFiles(mongo, storage)
        self._items = ItemStore(mongo, batching, metrics.damaged)
        self._claims = ClaimStore(mongo, batching)
        self._holds = HoldStore(
            mongo,
            batching,
            duration=timedelta(seconds=settings.hold),
            file_duration=file_duration,
            ended_files=self._ended_files,
            damaged=metrics.damaged,
        )
        self._attempts = AttemptStore(mongo, metrics.damaged)
        self._kept = KeptItemStore(mongo, ring, metrics.damaged)
        self.creator = ItemCreator(
            settings=settings,
            ring=ring,
            clock=mongo.clock,
            hashing=hashing,
            items=self._items,
            kept=self._kept,
            authenticator=authenticator,
            storage=storage,
            metrics=metrics,
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
            ended_files=self._ended_files,
            clock=mongo.clock,
            metrics=metrics,
            audit=audit,
        )
        self.files = HeldFiles(
            unsealer=unsealer, items=self._items, holds=self._holds, clock=mongo.clock, duration=file_duration
        )
        downloads = Downloads(held_files=self.files, storage=storage, metrics=metrics)
        messages = MessageService(unsealer=unsealer, items=self._items, metrics=metrics, audit=audit)
        receipts = ReceiptService(
            ring=ring,
            clock=mongo.clock,
            items=self._items,
            holds=self._holds,
            ended_files=self._ended_files,
            metrics=metrics,
            audit=audit,
        )
        create_secret = create_message = None
        self._my_items: MyItemRoutes | None = None
        if authenticator:
            required = not settings.anonymous_create
            create_secret = BearerGuard(authenticator, Scope.SECRETS, is_required=required)
            create_message = BearerGuard(authenticator, Scope.MESSAGES, is_required=required)
            service = MyItems(kept=self._kept, receipts=receipts, audit=audit)
            self._my_items = MyItemRoutes(service, BearerGuard(authenticator, Scope.SECRETS), origin)
        message_routes = MessageRoutes(
            creator=self.creator,
            service=messages,
            items=self._items,
            origin=origin,
            audit=audit,
            create_guard=create_message,
            page=message_page,
        )
        self._parts = (
            SecretRoutes(
                creator=self.creator,
                service=secrets,
                origin=origin,
                audit=audit,
                create_guard=create_secret,
                shell=shell,
            ),
            *((message_routes,) if settings.has("messages") else ()),
            ReceiptRoutes(receipts, origin),
            *((DownloadRoutes(self.files, downloads),) if settings.has("files") else ()),
        )

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes."""
        routes = [route for part in self._parts for route in part.routes()]
        return routes + self._my_items.routes() if self._my_items else routes

    async def erase_user(self, user_id: bytes) -> None:
        """Delete the records of the items that a user keeps; the items stay."""
        await self._kept.remove_all(user_id)

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Erase the files of items that have ended."""
        async with background_tasks(self._mongo.when_set_up(self._sweep)):
            yield

    async def _sweep(self) -> None:
        await repeat(self._ended_files.sweep, every=SWEEP_SECONDS)

    async def close(self) -> None:
        """Wait for the commands in flight."""
        for store in (self._items, self._claims, self._holds, self._attempts, self._ended_files):
            await store.close()
