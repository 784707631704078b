"""The composition root: builds all parts of the service and passes each the parts that it needs."""

from collections.abc import Callable, Iterator
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
from .health import DumpFailure, HealthRoutes
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
        # Only operators can read the audit, so there is none without accounts.
        self._recorder = (
            create_recorder(settings, self.ring, self.mongo, self.metrics) if settings.has("accounts") else None
        )
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
        self._accounts = self._build_accounts() if settings.has("accounts") else None
        self._authenticator = self._accounts.authenticator if self._accounts else None
        self._files = self._build_files()
        self._dump_failure: Callable[[], DumpFailure | None] = lambda: None
        sealed = self._build_sealed()
        self.features: list[Feature] = [sealed, self._files]
        if self._accounts:
            self._accounts.deletion.add(sealed.erase_user)
            self.features += self._build_for_users(self._accounts)
        self.routes += [
            *(route for feature in self.features for route in feature.routes()),
            *self._echo_routes(),
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
            authenticator=self._authenticator,
        )

    def _build_sealed(self) -> SealedFeature:
        return SealedFeature(
            settings=self.settings,
            ring=self.ring,
            mongo=self.mongo,
            hashing=self.hashing,
            batching=self._batching,
            storage=self._files.storage,
            origin=self.origin,
            metrics=self.metrics,
            audit=self.audit,
            authenticator=self._authenticator,
            shell=self.pages.secret,
            message_page=self.pages.message,
        )

    def _build_for_users(self, accounts: AccountsFeature) -> Iterator[Feature]:
        """Build accounts and the features that need them.

        Deleting an account erases the user's data in all features, including those that are off by now.
        """
        posts, gatherer = self._build_posts(accounts), self._build_gatherer(accounts)
        accounts.deletion.add(posts.erase_user)
        accounts.deletion.add(gatherer.erase)
        yield accounts
        if self.settings.has("posts"):
            yield posts
        if self.settings.has("gatherer"):
            self._dump_failure = gatherer.dump_failure
            yield gatherer
        # The last one to be closed: the commands in flight of the others still record events.
        yield self._build_audit(accounts)

    def _build_posts(self, accounts: AccountsFeature) -> PostsFeature:
        return PostsFeature(
            ring=self.ring,
            mongo=self.mongo,
            batching=self._batching,
            authenticator=accounts.authenticator,
            directory=accounts.directory,
            metrics=self.metrics,
        )

    def _build_gatherer(self, accounts: AccountsFeature) -> GathererFeature:
        return GathererFeature(
            settings=self.settings,
            ring=self.ring,
            mongo=self.mongo,
            batching=self._batching,
            origin=self.origin,
            authenticator=accounts.authenticator,
            directory=accounts.directory,
            identities=accounts.identities,
            metrics=self.metrics,
        )

    def _echo_routes(self) -> list[Route[Any]]:
        if self._accounts is None or not self.settings.has("echo"):
            return []
        return EchoRoutes(self._accounts.authenticator, self.pages.create).routes()

    def _build_service(self) -> ServiceRoutes:
        if self._accounts is None:
            return ServiceRoutes(self.settings, sign_in=[])
        return ServiceRoutes(
            self.settings,
            sign_in=["password", "passkey", "oidc"] if self.settings.oidc_issuer else ["password", "passkey"],
            oidc_name=self.settings.oidc_button,
        )

    def _build_audit(self, accounts: AccountsFeature) -> AuditFeature:
        return AuditFeature(
            ring=self.ring,
            mongo=self.mongo,
            recorder=self._recorder,
            authenticator=accounts.authenticator,
            directory=accounts.directory,
            metrics=self.metrics,
        )

    def _build_health(self) -> HealthRoutes:
        return HealthRoutes(
            self.mongo,
            dump_failure=self._dump_failure,
            creating_is_paused=lambda: self.storage.is_paused,
        )
