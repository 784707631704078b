"""The command line of a single process: `python -m src.app`."""

import argparse
import asyncio
import errno
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from pathlib import Path

from .api.server import address_of, listen_on_tcp, listen_on_unix, serve
from .api.tls import ServerTls
from .app import ALONE, MONGO, build_app
from .core.background import background_tasks
from .core.core_dumps import forbid_core_dumps
from .core.crypto.keys import read_key_ring
from .core.database.embedded import MongodError
from .core.database.group_commit import Batching
from .core.database.mongo import check_url
from .core.running_settings import RunningSettings, publish
from .core.tls.certificates import CertificateError, read_pair
from .core.workers import locate_run_directory
from .pages.branding import read_brand
from .settings import Settings, SettingsError, read_settings
from .startup import add_log_level, mongo_url, prepare, refuse_cleartext

DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8080
HIGHEST_PORT = 65535


def main(arguments: Sequence[str] | None = None, *, batching: Batching | None = None) -> int:
    """Run the service and return the exit code: 0 stopped or checked, 1 failed, 2 invalid arguments or settings.

    For ``batching``, see `build_app`.
    """
    options = _parse(arguments)
    forbid_core_dumps()
    try:
        if options.check:
            _check(options)
            return 0
        settings = prepare(options.log_level)
        tls = _tls(options, settings)
    except (SettingsError, CertificateError, OSError) as error:
        print(f"sealpost: cannot start\n{error}", file=sys.stderr)  # noqa: T201 (there is no log yet)
        return 2
    # Until the event loop installs its own handlers, SIGTERM must still stop the embedded MongoDB.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            listeners = [stack.enter_context(listener) for listener in _listen(options)]
            if options.announce and not settings.mongo_url:
                announce(f"Starting MongoDB, with its data in {settings.data_dir / 'mongo'}")
            url = stack.enter_context(mongo_url(settings))
            stack.enter_context(_published(settings, listeners[0], options.socket))
            with asyncio.Runner(loop_factory=event_loop_factory()) as runner:
                runner.run(_run(settings, url, listeners, options, tls=tls, batching=batching))
            # A second Ctrl-C must not leave mongod running.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except KeyboardInterrupt:
        return 0
    except (MongodError, SettingsError, OSError) as error:
        print(f"sealpost: {error}", file=sys.stderr)  # noqa: T201 (for the operator at the terminal)
        return 1
    return 0


async def _run(
    settings: Settings,
    url: str,
    listeners: Sequence[socket.socket],
    options: argparse.Namespace,
    *,
    tls: ServerTls | None,
    batching: Batching | None,
) -> None:
    socket_path: Path | None = options.socket
    app = await build_app(
        settings,
        url,
        worker=_worker_name(socket_path) if socket_path else ALONE,
        batching=batching,
    )

    async def announce_address() -> None:
        announce(f"Sealpost is ready (Ctrl-C stops it): open {address_of(listeners[0], socket_path, tls)}")

    async with background_tasks(*([app[MONGO].when_set_up(announce_address)] if options.announce else [])):
        await serve(app, listeners, socket_path=socket_path, shutdown_timeout=settings.shutdown_timeout, tls=tls)


def announce(text: str) -> None:
    """Print a message to stderr for the operator at the terminal; the log goes to stdout."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _published(settings: Settings, listener: socket.socket, socket_path: Path | None) -> AbstractContextManager[None]:
    """Publish the settings for `doctor`, beside the socket or else under the data directory."""
    running = RunningSettings.of(settings, read_key_ring(settings))
    if socket_path:
        return publish(socket_path.absolute().parent, _worker_name(socket_path), running)
    run_dir = locate_run_directory(settings.data_dir)
    # Do not create the data directory for this alone: with MongoDB and keys elsewhere there is none.
    if run_dir.parent.is_dir() and run_dir.is_relative_to(settings.data_dir.resolve()):
        with suppress(OSError):
            run_dir.mkdir(mode=0o700, exist_ok=True)
    return publish(run_dir, f"{ALONE}-{listener.getsockname()[1]}", running)


def _worker_name(socket_path: Path) -> str:
    """Return the name of the process that listens on the socket, as a valid file name."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket_path.stem)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m src.app",
        description="Serve Sealpost on a TCP port, a unix socket, or both. For all other settings, see .env.example.",
    )
    parser.add_argument("-H", "--host", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("-P", "--port", type=_port, help="port to listen on (default 8080)")
    parser.add_argument(
        "-U", "--socket", type=Path, help="unix socket for nginx; without -H or -P, no TCP port is opened"
    )
    parser.add_argument("--tls-cert", type=Path, metavar="FILE", help="serve HTTPS with this certificate chain")
    parser.add_argument("--tls-key", type=Path, metavar="FILE", help="private key of the certificate")
    add_log_level(parser)
    parser.add_argument("--announce", action="store_true", help="say on stderr when it is ready, and which URL to open")
    parser.add_argument("--check", action="store_true", help="check settings, keys and certificate, then exit")
    options = parser.parse_args(arguments)
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("--tls-cert and --tls-key must be used together")
    if options.tls_cert and not _takes_tcp(options):
        parser.error("TLS requires a TCP port: nginx speaks plain HTTP to the socket")
    return options


def _takes_tcp(options: argparse.Namespace) -> bool:
    return not options.socket or options.host is not None or options.port is not None


def _check(options: argparse.Namespace) -> None:
    """Check the configuration. Raises `SettingsError` and `CertificateError`."""
    settings = read_settings(**({"log_level": options.log_level} if options.log_level else {}))
    read_key_ring(settings)
    read_brand(settings)
    _tls(options, settings)
    if settings.mongo_url:
        check_url(settings.mongo_url.get_secret_value())
    if settings.tls_cert and settings.tls_key:
        read_pair(settings.tls_cert, settings.tls_key)


def _tls(options: argparse.Namespace, settings: Settings) -> ServerTls | None:
    if options.tls_cert:
        return ServerTls(options.tls_cert, options.tls_key)
    if _takes_tcp(options):
        refuse_cleartext(settings, "Use --tls-cert and --tls-key for a single process")
    return None


def _port(text: str) -> int:
    # getaddrinfo accepts any number and wraps it silently.
    port = int(text)
    if not 0 <= port <= HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"must be between 0 and {HIGHEST_PORT}")
    return port


def _listen(options: argparse.Namespace) -> Iterator[socket.socket]:
    """Yield the listening sockets. Raises `OSError` with a message for the terminal."""
    if _takes_tcp(options):
        host, port = options.host or DEFAULT_HOST, DEFAULT_PORT if options.port is None else options.port
        in_use = ". For another port: -P 9090, or make run PORT=9090"
        yield _open_listener(f"{host} port {port}", partial(listen_on_tcp, host, port), in_use)
    # Last: a failure after this would leave its file behind.
    if options.socket:
        yield _open_listener(str(options.socket), partial(listen_on_unix, options.socket))


def _open_listener(where: str, listen: Callable[[], socket.socket], if_in_use: str = "") -> socket.socket:
    try:
        return listen()
    except OSError as error:
        advice = if_in_use if error.errno == errno.EADDRINUSE else ""
        raise OSError(f"cannot listen on {where}: {error.strerror or error}{advice}") from None


def event_loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the factory of uvloop, or None if it is not installed."""
    try:
        import uvloop  # noqa: PLC0415 (not available on Windows)
    except ImportError:
        return None
    return uvloop.new_event_loop
