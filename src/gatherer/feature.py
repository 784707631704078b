"""The feature as the composition root sees it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from ..accounts.auth import Authenticator
from ..accounts.directory import UserDirectory
from ..accounts.identities import Identities
from ..api.features import Feature
from ..api.origin import Origin
from ..api.routing import Route
from ..core.crypto.keys import KeyRing
from ..core.database.group_commit import Batching
from ..core.database.mongo import Indexes, Mongo
from ..core.metrics import Metrics
from ..settings import Settings
from . import bundle, bundle_store, sender_counters, sender_states
from .bundle import BundleSealer
from .bundle_reader import BundleReader
from .bundle_store import BundleStore
from .dump.lock import DumpFailure
from .dump.writer import DumpWriter
from .export import Export
from .routes import GathererRoutes
from .sender_counters import SenderCounters
from .sender_states import SenderStates, SenderTokens
from .service import GathererService

INDEXES: Indexes = {**bundle_store.INDEXES, **sender_counters.INDEXES, **sender_states.INDEXES}
RESEALABLE = (bundle.RESEALABLE,)


class GathererFeature(Feature):
    """The wired gatherer; ``erase`` deletes the data of a user."""

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        batching: Batching,
        origin: Origin,
        authenticator: Authenticator,
        directory: UserDirectory,
        identities: Identities,
        metrics: Metrics,
    ) -> None:
        self._states = SenderStates(mongo, ring, batching)
        self._bundles = BundleStore(
            mongo,
            ring,
            batching,
            metrics,
            life=timedelta(seconds=settings.gathered_ttl),
            patience=settings.mongo_timeout,
        )
        reader = BundleReader(mongo)
        export = Export(reader, BundleSealer(ring, metrics.damaged), directory.names)
        self._dump: DumpWriter | None = None
        if settings.dump_path is not None:
            self._dump = DumpWriter(
                settings.dump_path,
                max_bytes=settings.gathered_max_bytes,
                backups=settings.gathered_backups,
                reader=reader,
                export=export,
                counters=SenderCounters(mongo),
                is_ready=lambda: mongo.is_set_up,
                metrics=metrics,
            )
        service = GathererService(
            clock=mongo.clock,
            states=self._states,
            bundles=self._bundles,
            tokens=SenderTokens(ring, mongo.clock),
            authenticator=authenticator,
            identities=identities,
            on_stored=self._dump.wake if self._dump else lambda: None,
        )
        self.erase = service.erase
        self._routes = GathererRoutes(service, export, authenticator, directory, origin)

    def routes(self) -> list[Route[Any]]:
        """Return its routes."""
        return self._routes.routes()

    def dump_failure(self) -> DumpFailure | None:
        """Return the failure that keeps the dump from being written, if there is one."""
        return self._dump.failure() if self._dump else None

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Keep the dump up to date until the feature is closed."""
        if self._dump:
            self._dump.start()
        yield

    async def close(self) -> None:
        """Wait for commands in flight, and write their messages to the dump."""
        await self._states.close()
        await self._bundles.close()
        if self._dump:
            await self._dump.close()
