"""Wires the audit together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from ..accounts.auth import Authenticator
from ..accounts.directory import UserDirectory
from ..accounts.guards import OperatorGuard
from ..api.features import Feature
from ..api.routing import Route
from ..core.background import background_tasks
from ..core.crypto.keys import KeyRing
from ..core.database.mongo import Mongo
from ..core.metrics import Metrics
from ..settings import Settings
from . import records
from .export import AuditExport
from .reader import AuditReader
from .recorder import AuditRecorder
from .records import AuditSealer
from .routes import AuditRoutes

INDEXES = records.INDEXES
RESEALABLE = (records.RESEALABLE,)


def create_recorder(
    settings: Settings, ring: KeyRing, mongo: Mongo, metrics: Metrics | None = None
) -> AuditRecorder | None:
    """Return the recorder that the settings define; None if the audit is off."""
    if not settings.audit_ttl:
        return None
    return AuditRecorder(
        mongo,
        ring,
        life=timedelta(seconds=settings.audit_ttl),
        with_addresses=settings.audit_addresses,
        dropped=(metrics or Metrics.off()).audit_dropped,
    )


class AuditFeature(Feature):
    """The route of the audit, and the recorder's work in the background; without a recorder, neither."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        mongo: Mongo,
        recorder: AuditRecorder | None,
        authenticator: Authenticator,
        directory: UserDirectory,
        metrics: Metrics,
    ) -> None:
        self._mongo = mongo
        self._recorder = recorder
        reader = AuditReader(mongo, AuditSealer(ring, metrics.damaged))
        self._routes = AuditRoutes(AuditExport(reader, directory), OperatorGuard(authenticator))

    def routes(self) -> list[Route[Any]]:
        """Return its routes."""
        return self._routes.routes() if self._recorder else []

    @asynccontextmanager
    async def background_tasks(self) -> AsyncIterator[None]:
        """Store the events that are recorded."""
        if self._recorder:
            async with background_tasks(self._mongo.when_set_up(self._recorder.watch)):
                yield
        else:
            yield

    async def close(self) -> None:
        """Store the last events. Close all other features first."""
        if self._recorder:
            await self._recorder.close()
