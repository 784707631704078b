"""The composition root: wires all features into one application. `python -m src.app` runs `command`."""

import argparse
import asyncio
import atexit
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import ExitStack
from typing import Any

import structlog
from aiohttp import web

from .accounts.auth import Scope
from .accounts.feature import AccountsFeature
from .accounts.guards import BearerGuard
from .api.bodies import HANDLER_ARGUMENTS, MAX_BODY
from .api.edge import EDGE, Edge, install_parser_error_handler
from .api.openapi import OpenApiRoutes
from .api.origin import Origin
from .api.routing import Route, add_routes
from .core.audit import NoAudit
from .core.background import background_tasks, repeat
from .core.crypto.hashing import HashingPool
from .core.crypto.keys import read_key_ring
from .core.database.embedded import MongodError
from .core.database.group_commit import Batching, group_commit
from .core.database.mongo import Mongo, check_url
from .core.database.prerequisites import ClockCheck, KeyChecks, Prerequisites
from .core.database.resealing import Resealing
from .core.database.shared_settings import SharedSettings
from .core.database.storage_budget import NEAR_SECONDS, StorageBudget
from .core.metrics import Metrics, ProcessFigures, mongo_listeners
from .echo import EchoRoutes
from .files.feature import FilesFeature
from .files.routes import add_version
from .gatherer.feature import GathererFeature
from .health import HealthRoutes
from .pages.feature import REFERENCE, PagesFeature
from .posts.feature import PostsFeature
from .scraping import ScrapeRoutes
from .sealed.feature import SealedFeature
from .settings import Settings, SettingsError
from .startup import add_log_level, mongo_url, prepare, refuse_cleartext
from .storage import EXPIRING, INDEXES, RESEALABLE
from .storage_limits import StorageLimits, create_byte_budget

ALONE = "app"
"""Name of a process that is not one of several workers."""
MONGO = web.AppKey("MONGO", Mongo)

log = structlog.get_logger(__name__)


async def build_app(
    settings: Settings,
    url: str,
    *,
    worker: str = ALONE,
    batching: Batching | None = None,
    prefix: str = "",
) -> web.Application:
    """Wire every feature into an application for the running event loop.

    ``worker`` is the name of the process, unique on its host. ``batching`` replaces group commit, for benchmarks.
    ``prefix`` begins the names of all collections, for the smoke test. Raises `SettingsError` for an invalid URL or key
    ring, and `StorageError` for an unusable metrics directory.
    """
    check_url(url)
    install_parser_error_handler()
    ring, audit = read_key_ring(settings), NoAudit()
    origin = Origin(settings)
    metrics = Metrics.of(settings, worker)
    routes: list[Route[Any]] = []
    openapi = OpenApiRoutes(routes, REFERENCE)
    pages = PagesFeature(settings, origin, lambda: openapi.document)
    edge = Edge(origin, metrics, request_timeout=settings.request_timeout, pages=pages)
    figures = ProcessFigures(metrics)
    mongo = Mongo(settings, url, mongo_listeners(metrics), prefix=prefix)
    hashing = HashingPool(
        threads=settings.hashing_threads,
        queue=settings.hashing_queue,
        longest_wait=settings.hashing_wait,
        metrics=metrics,
    )
    batching = batching or group_commit(max_batch=settings.batch_max, max_queue=settings.batch_queue, metrics=metrics)
    accounts = AccountsFeature(
        settings=settings,
        ring=ring,
        mongo=mongo,
        hashing=hashing,
        batching=batching,
        origin=origin,
        metrics=metrics,
        audit=audit,
    )
    authenticator = accounts.authenticator
    create_secret = None if settings.anonymous_create else BearerGuard(authenticator, Scope.SECRETS)
    files = FilesFeature(
        settings=settings, ring=ring, mongo=mongo, origin=origin, metrics=metrics, create_guard=create_secret
    )
    sealed = SealedFeature(
        settings=settings,
        ring=ring,
        mongo=mongo,
        hashing=hashing,
        batching=batching,
        storage=files.storage,
        origin=origin,
        metrics=metrics,
        audit=audit,
        create_secret=create_secret,
        create_message=None if settings.anonymous_create else BearerGuard(authenticator, Scope.MESSAGES),
        shell=pages.secret,
        message_page=pages.message,
    )
    posts = PostsFeature(
        ring=ring,
        mongo=mongo,
        batching=batching,
        authenticator=authenticator,
        directory=accounts.directory,
        metrics=metrics,
    )
    accounts.deletion.add(posts.erase_user)
    gatherer = GathererFeature(
        settings=settings,
        ring=ring,
        mongo=mongo,
        batching=batching,
        origin=origin,
        authenticator=authenticator,
        directory=accounts.directory,
        identities=accounts.identities,
        metrics=metrics,
    )
    accounts.deletion.add(gatherer.erase)
    features = (accounts, sealed, posts, gatherer)
    storage = StorageBudget(mongo, settings, metrics)
    storage_limits = StorageLimits(storage, create_byte_budget(settings, mongo, ring, metrics), origin)
    # In the order of the reference.
    routes += [
        *(route for feature in (sealed, files, accounts, posts, gatherer) for route in feature.routes()),
        *EchoRoutes(authenticator, pages.create).routes(),
        *pages.routes(),
        *HealthRoutes(mongo, dump_failure=gatherer.dump_failure, creating_is_paused=lambda: storage.is_paused).routes(),
        *ScrapeRoutes(metrics, origin).routes(),
        *openapi.routes(),
    ]

    prerequisites = Prerequisites(
        mongo,
        clock=ClockCheck(mongo, metrics.clock_offset),
        keys=KeyChecks(mongo, ring, Resealing(mongo, ring, RESEALABLE, EXPIRING).missing_keys),
    )
    shared = SharedSettings(mongo, settings, ring, worker)

    async def prepare_database() -> None:
        await prerequisites.require()
        await shared.store()

    async def run(_: web.Application) -> AsyncIterator[None]:
        async with (
            background_tasks(
                mongo.set_up(INDEXES, prepare_database),
                mongo.when_set_up(prerequisites.watch),
                mongo.when_set_up(shared.watch),
                repeat(storage.watch, every=NEAR_SECONDS),
            ),
            figures.background_tasks(),
            accounts.background_tasks(),
            sealed.background_tasks(),
            posts.background_tasks(),
            gatherer.background_tasks(),
        ):
            yield
        try:
            async with asyncio.timeout(settings.shutdown_timeout / 2):
                for feature in features:
                    await feature.close()
        except TimeoutError:
            log.warning("stopped before MongoDB answered")
        hashing.close()
        await shared.withdraw()
        await mongo.close()
        metrics.close()

    app = web.Application(middlewares=[edge.middleware()], client_max_size=MAX_BODY, handler_args=HANDLER_ARGUMENTS)
    app[EDGE], app[MONGO] = edge, mongo
    app.cleanup_ctx.append(run)
    if settings.file_max:
        app.on_response_prepare.append(add_version)
    add_routes(app, routes, mongo.admit, storage_limits)
    return app


def init_app(arguments: Sequence[str]) -> Awaitable[web.Application]:
    """Return the application for aiohttp's own command: `python -m aiohttp.web src.app:init_app`.

    ``arguments`` are those that aiohttp does not recognize. For invalid arguments or settings, or if MongoDB cannot be
    started, prints an error message and exits with the codes of `python -m src.app`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m aiohttp.web src.app:init_app",
        description="For the other options, see python -m aiohttp.web --help; for settings, see .env.example.",
    )
    add_log_level(parser)
    options = parser.parse_args(arguments)
    resources = ExitStack()
    # For an exit before the application has started; after that, its clean-up closes them.
    atexit.register(resources.close)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        settings = prepare(options.log_level)
        refuse_cleartext(settings, "aiohttp's command has no option for a certificate; python -m src.app has")
        url = resources.enter_context(mongo_url(settings))
        check_url(url)
    except KeyboardInterrupt:
        sys.exit(0)
    except (SettingsError, MongodError, OSError) as error:
        print(f"sealpost: cannot start\n{error}", file=sys.stderr)  # noqa: T201 (for the operator at the terminal)
        sys.exit(1 if isinstance(error, MongodError) else 2)
    # aiohttp sets no mode on its socket: allow only the user and group of the process.
    os.umask(os.umask(0) | 0o007)
    return _build_with(resources, settings, url)


async def _build_with(resources: ExitStack, settings: Settings, url: str) -> web.Application:
    """Build the application; its clean-up closes the resources."""
    app = await build_app(settings, url)

    async def close(_: web.Application) -> AsyncIterator[None]:
        yield
        resources.close()

    app.cleanup_ctx.insert(0, close)
    return app


if __name__ == "__main__":
    from .command import main

    sys.exit(main())
