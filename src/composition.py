"""The composition root: builds all parts of the service and passes each the parts that it needs."""

from typing import Any

from .accounts.feature import AccountsFeature
from .api.features import Feature
from .api.openapi import OpenApiRoutes
from .api.origin import Origin
from .api.routing import Route
from .audit.feature import AuditFeature, create_recorder
from .core.audit import NOT_RECORDED, Audit
from .core.crypto.hashing import HashingPool
from .core.crypto.keys import read_key_ring
from .core.database.group_commit import Batching, group_commit
from .core.database.mongo import Mongo
from .core.database.storage_budget import StorageBudget
from .core.metrics import Metrics, mongo_listeners
from .echo import EchoRoutes
from .files.feature import FilesFeature
from .gatherer.feature import GathererFeature
from .health import HealthRoutes
from .pages.feature import REFERENCE, PagesFeature
from .posts.feature import PostsFeature
from .scraping import ScrapeRoutes
from .sealed.feature import SealedFeature
from .service import ServiceRoutes
from .settings import Settings


class Composition:
    """The parts of one service: first those that all features share, then the features.

    ``routes`` and ``features`` are in the order of the reference. Raises `SettingsError` for an invalid key ring or
    branding, and `StorageError` for an unusable metrics directory.
    """

    def __init__(self, settings: Settings, url: str, *, worker: str, batching: Batching | None, prefix: str) -> None:
        self.settings = settings
        self.ring = read_key_ring(settings)
        self.origin = Origin(settings)
        self.metrics = Metrics.of(settings, worker)
        self.mongo = Mongo(settings, url, mongo_listeners(self.metrics), prefix=prefix)
        self._recorder = create_recorder(settings, self.ring, self.mongo, self.metrics)
        self.audit: Audit = self._recorder or NOT_RECORDED
        self.storage = StorageBudget(self.mongo, settings, self.metrics)
        self.hashing = HashingPool(
            threads=settings.hashing_threads,
            queue=settings.hashing_queue,
            longest_wait=settings.hashing_wait,
            metrics=self.metrics,
        )
        self._batching = batching or group_commit(
            max_batch=settings.batch_max, max_queue=settings.batch_queue, metrics=self.metrics
        )
        self.routes: list[Route[Any]] = []
        openapi = OpenApiRoutes(self.routes, REFERENCE)
        self.pages = PagesFeature(settings, self.origin, lambda: openapi.document)
        # Other features use accounts and files, so these are built first.
        self._accounts = self._build_accounts()
        self._files = self._build_files()
        self._gatherer = self._build_gatherer()
        self.features: tuple[Feature, ...] = (
            self._build_sealed(),
            self._files,
            self._accounts,
            self._build_posts(),
            self._gatherer,
            # The last one to be closed: the commands in flight of the others still record events.
            self._build_audit(),
        )
        self.routes += [
            *(route for feature in self.features for route in feature.routes()),
            *EchoRoutes(self._accounts.authenticator, self.pages.create).routes(),
            *self.pages.routes(),
            *self._build_service().routes(),
            *self._build_health().routes(),
            *ScrapeRoutes(self.metrics, self.origin).routes(),
            *openapi.routes(),
        ]

    def _build_accounts(self) -> AccountsFeature:
        return AccountsFeature(
            settings=self.settings,
            ring=self.ring,
            mongo=self.mongo,
            hashing=self.hashing,
            batching=self._batching,
            origin=self.origin,
            metrics=self.metrics,
            audit=self.audit,
        )

    def _build_files(self) -> FilesFeature:
        return FilesFeature(
            settings=self.settings,
            ring=self.ring,
            mongo=self.mongo,
            origin=self.origin,
            metrics=self.metrics,
            authenticator=self._accounts.authenticator,
        )

    def _build_sealed(self) -> SealedFeature:
        sealed = SealedFeature(
            settings=self.settings,
            ring=self.ring,
            mongo=self.mongo,
            hashing=self.hashing,
            batching=self._batching,
            storage=self._files.storage,
            origin=self.origin,
            metrics=self.metrics,
            audit=self.audit,
            authenticator=self._accounts.authenticator,
            shell=self.pages.secret,
            message_page=self.pages.message,
        )
        self._accounts.deletion.add(sealed.erase_user)
        return sealed

    def _build_posts(self) -> PostsFeature:
        posts = PostsFeature(
            ring=self.ring,
            mongo=self.mongo,
            batching=self._batching,
            authenticator=self._accounts.authenticator,
            directory=self._accounts.directory,
            metrics=self.metrics,
        )
        self._accounts.deletion.add(posts.erase_user)
        return posts

    def _build_gatherer(self) -> GathererFeature:
        gatherer = GathererFeature(
            settings=self.settings,
            ring=self.ring,
            mongo=self.mongo,
            batching=self._batching,
            origin=self.origin,
            authenticator=self._accounts.authenticator,
            directory=self._accounts.directory,
            identities=self._accounts.identities,
            metrics=self.metrics,
        )
        self._accounts.deletion.add(gatherer.erase)
        return gatherer

    def _build_service(self) -> ServiceRoutes:
        return ServiceRoutes(
            self.settings,
            features=["messages", "accounts", "posts", "gatherer", "echo", "files"],
            registration=self.settings.registration,
            sign_in=["password", "passkey", "oidc"] if self.settings.oidc_issuer else ["password", "passkey"],
            oidc_name=self.settings.oidc_button,
        )

    def _build_audit(self) -> AuditFeature:
        return AuditFeature(
            ring=self.ring,
            mongo=self.mongo,
            recorder=self._recorder,
            authenticator=self._accounts.authenticator,
            directory=self._accounts.directory,
            metrics=self.metrics,
        )

    def _build_health(self) -> HealthRoutes:
        return HealthRoutes(
            self.mongo,
            dump_failure=self._gatherer.dump_failure,
            creating_is_paused=lambda: self.storage.is_paused,
        )
