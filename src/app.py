"""The command line, and the one place that knows every feature: `python -m src.app`."""

import argparse
import asyncio
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

import structlog
from aiohttp import web

from .accounts.auth import Scope
from .accounts.feature import AccountsFeature
from .api.edge import EDGE, Edge
from .api.openapi import OpenApiRoutes
from .api.origin import Origin
from .api.routing import add_routes
from .api.server import listen_on_tcp, listen_on_unix, serve
from .api.tls import ServerTls
from .api.unparsable import answer_in_our_shape
from .core.background import repeat, running
from .core.batching import Batching, group_commit
from .core.certificates import CertificateError, read_pair
from .core.core_dumps import forbid_core_dumps
from .core.embedded import MongodError, embedded_mongod
from .core.hashing import HashingPool
from .core.key_checks import CHECK_SECONDS, KeyChecks
from .core.keys import KeyRing, read_key_ring
from .core.logs import configure_logs
from .core.metrics import Metrics, ProcessFigures, mongo_listeners
from .core.mongo import Mongo, check_url
from .core.resealing import Resealing
from .core.running_settings import RunningSettings, publish
from .core.storage_budget import NEAR_SECONDS, StorageBudget
from .core.workers import locate_run_directory
from .echo import EchoRoutes
from .gatherer.feature import GathererFeature
from .health import HealthRoutes
from .pages.feature import PagesFeature
from .posts.feature import PostsFeature
from .scraping import ScrapeRoutes
from .sealed.feature import SealedFeature
from .settings import Settings, SettingsError, read_settings
from .storage import EXPIRING, INDEXES, RESEALABLE
from .storing import StorageLimits, create_byte_budget

MAX_BODY = 1024 * 1024
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8080
HIGHEST_PORT = 65535
ALONE = "app"
"""What a process is called that is none of several workers."""
MONGO = web.AppKey("MONGO", Mongo)

log = structlog.get_logger(__name__)


async def build_app(
    settings: Settings,
    mongo_url: str,
    *,
    worker: str = ALONE,
    batching: Batching | None = None,
) -> web.Application:
    """Wire every feature into an application for the running event loop.

    ``worker`` names the process among those of its host. ``batching`` takes the place of group commit; the bench
    measures against it. Raises `SettingsError` for an unusable URL or key ring, and `StorageError` for an unusable
    directory of counts.
    """
    check_url(mongo_url)
    answer_in_our_shape()
    ring = read_key_ring(settings)
    origin = Origin(settings)
    metrics = Metrics.of(settings, worker)
    edge = Edge(origin, metrics, request_timeout=settings.request_timeout)
    figures = ProcessFigures(metrics)
    mongo = Mongo(settings, mongo_url, mongo_listeners(metrics))
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
    )
    guard = accounts.authenticator.guard
    pages = PagesFeature(settings)
    sealed = SealedFeature(
        settings=settings,
        ring=ring,
        mongo=mongo,
        hashing=hashing,
        batching=batching,
        origin=origin,
        metrics=metrics,
        create_secret=None if settings.anonymous_create else guard(Scope.SECRETS),
        create_message=None if settings.anonymous_create else guard(Scope.MESSAGES),
        shell=pages.secret,
        message_page=pages.message,
    )
    posts = PostsFeature(
        ring=ring, mongo=mongo, batching=batching, authenticator=accounts.authenticator, metrics=metrics
    )
    accounts.deletion.add(posts.erase_author)
    gatherer = GathererFeature(
        settings=settings,
        ring=ring,
        mongo=mongo,
        batching=batching,
        origin=origin,
        authenticator=accounts.authenticator,
        identities=accounts.identities,
        metrics=metrics,
    )
    accounts.deletion.add(gatherer.erase)
    features = (accounts, sealed, posts, gatherer)
    storage = StorageBudget(mongo, settings, metrics)
    storage_limits = StorageLimits(storage, create_byte_budget(settings, mongo, ring, metrics), origin)
    routes = [
        *HealthRoutes(mongo, dump_trouble=gatherer.trouble, creating_is_paused=lambda: storage.is_paused).routes(),
        *ScrapeRoutes(metrics, origin).routes(),
        *EchoRoutes(accounts.authenticator, pages.create).routes(),
        *pages.routes(),
        *(route for feature in features for route in feature.routes()),
    ]
    routes += OpenApiRoutes(routes).routes()

    keys = KeyChecks(mongo, ring, Resealing(mongo, ring, RESEALABLE, EXPIRING).missing_keys)

    async def keep_checking_keys() -> None:
        # Another host may have begun to seal under a key that this ring lacks.
        await repeat(lambda: mongo.check(keys.require), every=CHECK_SECONDS)

    async def run(_: web.Application) -> AsyncIterator[None]:
        async with (
            running(
                mongo.set_up(INDEXES, keys.require),
                mongo.when_set_up(keep_checking_keys),
                repeat(storage.watch, every=NEAR_SECONDS),
            ),
            figures.running(),
            accounts.running(),
            sealed.running(),
            posts.running(),
            gatherer.running(),
        ):
            yield
        try:
            async with asyncio.timeout(settings.shutdown_timeout / 2):
                for feature in features:
                    await feature.close()
        except TimeoutError:
            log.warning("stopped while the database did not answer")
        hashing.close()
        await mongo.close()
        metrics.close()

    app = web.Application(middlewares=[edge.middleware()], client_max_size=MAX_BODY)
    app[EDGE], app[MONGO] = edge, mongo
    app.cleanup_ctx.append(run)
    add_routes(app, routes, mongo.admit, storage_limits)
    return app


def main(arguments: Sequence[str] | None = None, *, batching: Batching | None = None) -> int:
    """Run the service and return the exit code: 0 stopped or checked, 1 could not run, 2 wrong arguments or settings.

    ``batching`` is as for `build_app`.
    """
    options = _parse(arguments)
    forbid_core_dumps()
    try:
        settings = read_settings(**({"log_level": options.log_level} if options.log_level else {}))
        ring = read_key_ring(settings)
        if options.check:
            _check(options, settings)
            return 0
        configure_logs(settings)
        tls = _tls(options, settings)
    except (SettingsError, CertificateError, OSError) as error:
        print(f"sealpost: cannot start\n{error}", file=sys.stderr)  # noqa: T201 (there is no log yet)
        return 2
    # Until the event loop has handlers of its own, being stopped must still stop the embedded MongoDB.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with ExitStack() as stack:
            listener = stack.enter_context(_listen(options))
            mongo_url = _mongo_url(settings, stack)
            stack.enter_context(_published(settings, ring, listener, options.socket))
            with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
                runner.run(_run(settings, mongo_url, listener, socket_path=options.socket, tls=tls, batching=batching))
            # A second Ctrl-C must not leave a mongod behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except KeyboardInterrupt:
        return 0
    except (MongodError, SettingsError, OSError) as error:
        print(f"sealpost: {error}", file=sys.stderr)  # noqa: T201 (for the person at the terminal)
        return 1
    return 0


async def _run(
    settings: Settings,
    mongo_url: str,
    listener: socket.socket,
    *,
    socket_path: Path | None,
    tls: ServerTls | None,
    batching: Batching | None,
) -> None:
    app = await build_app(
        settings,
        mongo_url,
        worker=_worker_name(socket_path) if socket_path else ALONE,
        batching=batching,
    )
    await serve(app, listener, socket_path=socket_path, shutdown_timeout=settings.shutdown_timeout, tls=tls)


def _published(
    settings: Settings, ring: KeyRing, listener: socket.socket, socket_path: Path | None
) -> AbstractContextManager[None]:
    """Leave the settings where `doctor` looks for them: beside the socket, or else under the data directory."""
    running = RunningSettings.of(settings, ring)
    if socket_path:
        return publish(socket_path.absolute().parent, _worker_name(socket_path), running)
    run_dir = locate_run_directory(settings.data_dir)
    # Not made for this alone: with MongoDB and keys elsewhere there is no data directory.
    if run_dir.parent.is_dir() and run_dir.is_relative_to(settings.data_dir.resolve()):
        with suppress(OSError):
            run_dir.mkdir(mode=0o700, exist_ok=True)
    return publish(run_dir, f"{ALONE}-{listener.getsockname()[1]}", running)


def _worker_name(socket_path: Path) -> str:
    """Return what a process is called that listens on the socket, in letters that a file's name may have."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket_path.stem)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.app",
        description="Serve Sealpost on a TCP port or on a unix socket. Everything else is a setting: see .env.example.",
    )
    parser.add_argument("-H", "--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("-P", "--port", type=_port, help="port to listen on (default 8080)")
    parser.add_argument("-U", "--socket", type=Path, help="unix socket to listen on instead, for nginx alone")
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve HTTPS with this certificate and its chain")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="the key of that certificate")
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), help="overrides SEALPOST_LOG_LEVEL"
    )
    parser.add_argument("--check", action="store_true", help="check settings, keys and certificate, and start nothing")
    options = parser.parse_args(arguments)
    if options.socket and (options.host is not None or options.port is not None):
        parser.error("give either a socket or a host and port, not both")
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("give --tls-cert and --tls-key, or neither")
    if options.socket and options.tls_cert:
        parser.error("TLS is for a host and port: on a socket nginx speaks plain HTTP")
    return options


def _check(options: argparse.Namespace, settings: Settings) -> None:
    """Check the rest of the configuration. Raises `SettingsError` and `CertificateError`."""
    _tls(options, settings)
    if settings.mongo_url:
        check_url(settings.mongo_url.get_secret_value())
    if settings.tls_cert and settings.tls_key:
        read_pair(settings.tls_cert, settings.tls_key)


def _tls(options: argparse.Namespace, settings: Settings) -> ServerTls | None:
    if options.tls_cert:
        return ServerTls(options.tls_cert, options.tls_key)
    if settings.tls != "off" and not options.socket:
        # What is meant to be served over TLS is never served in the clear by mistake.
        raise SettingsError(
            "SEALPOST_TLS is for the stack. One process takes --tls-cert and --tls-key; or set SEALPOST_TLS=off for it."
        )
    return None


def _port(text: str) -> int:
    # getaddrinfo takes any number and wraps it around silently.
    port = int(text)
    if not 0 <= port <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be between 0 and {HIGHEST_PORT}")
    return port


def _listen(options: argparse.Namespace) -> socket.socket:
    if options.socket:
        where, listen = str(options.socket), partial(listen_on_unix, options.socket)
    else:
        host, port = options.host or DEFAULT_HOST, DEFAULT_PORT if options.port is None else options.port
        where, listen = f"{host} port {port}", partial(listen_on_tcp, host, port)
    try:
        return listen()
    except OSError as error:
        raise OSError(f"cannot listen on {where}: {error.strerror or error}") from None


def _mongo_url(settings: Settings, stack: ExitStack) -> str:
    if settings.mongo_url:
        return settings.mongo_url.get_secret_value()
    return stack.enter_context(embedded_mongod(settings.data_dir, settings.mongod))


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the fastest event loop that this machine has; None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 (does not exist for Windows)
    except ImportError:
        return None
    return uvloop.new_event_loop


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
