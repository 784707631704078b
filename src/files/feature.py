"""Wires uploads and the files of items together."""

from typing import Any

from ..accounts.auth import Authenticator, Scope
from ..accounts.guards import BearerGuard
from ..api.features import Feature
from ..api.origin import Origin
from ..api.routing import Route
from ..core.crypto.keys import KeyRing
from ..core.database.mongo import Indexes, Mongo
from ..core.database.resealing import Expiring
from ..core.metrics import Metrics
from ..core.stored_files import FileStorage
from ..settings import Settings
from . import chunks, uploads
from .chunks import ChunkStore
from .routes import UploadRoutes
from .storage import MongoFileStorage
from .uploading import UploadService
from .uploads import UploadStore

INDEXES: Indexes = {**uploads.INDEXES, **chunks.INDEXES}
EXPIRING = (Expiring(chunks.COLLECTION, {}, expires="delete_at"),)


class FilesFeature(Feature):
    """Uploads, and ``storage`` for the features that use them; without ``authenticator``, everyone may upload."""

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        mongo: Mongo,
        origin: Origin,
        metrics: Metrics,
        authenticator: Authenticator | None = None,
    ) -> None:
        chunk_store = ChunkStore(mongo)
        upload_store = UploadStore(mongo, chunk_store, metrics.damaged)
        self.storage: FileStorage = MongoFileStorage(ring, upload_store, chunk_store, damaged=metrics.damaged)
        service = UploadService(ring, upload_store, metrics, file_max=settings.file_limit)
        guard = None
        if authenticator:
            guard = BearerGuard(authenticator, Scope.SECRETS, is_required=not settings.anonymous_create)
        self._routes = UploadRoutes(service, origin, guard, settings.files_max) if settings.file_limit else None

    def routes(self) -> list[Route[Any]]:
        """Return the declarations of its routes; none if files are switched off."""
        return self._routes.routes() if self._routes else []
