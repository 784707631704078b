"""Puts the parts of the service together as one application. `python -m src.app` runs `command`."""

import argparse
import asyncio
import atexit
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, ExitStack

import structlog
from aiohttp import web

from .api.bodies import HANDLER_ARGUMENTS, MAX_BODY
from .api.edge import EDGE, Edge, install_parser_error_handler
from .api.routing import add_routes
from .composition import Composition
from .core.audit import Audit
from .core.background import background_tasks, repeat
from .core.database.embedded import MongodError
from .core.database.group_commit import Batching
from .core.database.mongo import Mongo, check_url
from .core.database.prerequisites import ClockCheck, KeyChecks, Prerequisites
from .core.database.resealing import Resealing
from .core.database.shared_settings import SharedSettings
from .core.database.storage_budget import NEAR_SECONDS
from .core.metrics import ProcessFigures
from .files.routes import add_version
from .settings import Settings, SettingsError
from .startup import add_log_level, mongo_url, prepare, refuse_cleartext
from .storage import EXPIRING, RESEALABLE, needed_indexes
from .storage_limits import StorageLimits, create_byte_budget

ALONE = "app"
"""Name of a process that is not one of several workers."""
MONGO = web.AppKey("MONGO", Mongo)
AUDIT: web.AppKey[Audit] = web.AppKey("AUDIT")

log = structlog.get_logger(__name__)


async def build_app(
    settings: Settings,
    url: str,
    *,
    worker: str = ALONE,
    batching: Batching | None = None,
    prefix: str = "",
) -> web.Application:
    """Build the application for the running event loop.

    ``worker`` is the name of the process, unique on its host. ``batching`` replaces group commit, for benchmarks.
    ``prefix`` begins the names of all collections, for the smoke test. Raises `SettingsError` for an invalid URL or key
    ring, and `StorageError` for an unusable metrics directory.
    """
    check_url(url)
    install_parser_error_handler()
    parts = Composition(settings, url, worker=worker, batching=batching, prefix=prefix)
    mongo, ring, metrics, storage = parts.mongo, parts.ring, parts.metrics, parts.storage
    edge = Edge(
        parts.origin,
        metrics,
        request_timeout=settings.request_timeout,
        pages=parts.pages,
        complete=add_version if settings.file_limit else None,
    )
    figures = ProcessFigures(metrics)
    storage_limits = StorageLimits(storage, create_byte_budget(settings, mongo, ring, metrics), parts.origin, ring)
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
        async with AsyncExitStack() as running:
            await running.enter_async_context(
                background_tasks(
                    mongo.set_up(needed_indexes(settings), prepare_database),
                    mongo.when_set_up(prerequisites.watch),
                    mongo.when_set_up(shared.watch),
                    repeat(storage.watch, every=NEAR_SECONDS),
                )
            )
            await running.enter_async_context(figures.background_tasks())
            for feature in parts.features:
                await running.enter_async_context(feature.background_tasks())
            yield
        try:
            async with asyncio.timeout(settings.shutdown_timeout / 2):
                for feature in parts.features:
                    await feature.close()
        except TimeoutError:
            log.warning("stopped before MongoDB answered")
        parts.hashing.close()
        await shared.withdraw()
        await mongo.close()
        edge.close()
        metrics.close()

    app = web.Application(middlewares=[edge.middleware()], client_max_size=MAX_BODY, handler_args=HANDLER_ARGUMENTS)
    app[EDGE], app[MONGO], app[AUDIT] = edge, mongo, parts.audit
    app.cleanup_ctx.append(run)
    add_routes(app, parts.routes, mongo.admit, storage_limits)
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
