"""Listening, serving, and graceful shutdown."""

import asyncio
import errno
import gc
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from ssl import SSLContext

import structlog
from aiohttp import web

from .. import __version__
from ..core.addresses import join_host_and_port
from .edge import EDGE
from .tls import ServerTls

BACKLOG = 1024
IDLE_CONNECTION_SECONDS = 75.0
"""Longer than nginx's keepalive to a worker, so that nginx always closes idle connections first."""
ACCEPTED_AT_ONCE = 32
"""Connections that a listener accepts in one iteration of the event loop."""
DRAIN_POLL_SECONDS = 0.05
YOUNG_OBJECTS = 20_000
"""Threshold of the garbage collector's youngest generation; Python's default is 700."""

log = structlog.get_logger(__name__)


def listen_on_tcp(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `OSError`."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def listen_on_unix(path: Path) -> socket.socket:
    """Return a listening socket of mode 0660; it replaces a stale socket file.

    Raises `OSError`, with ``EADDRINUSE`` if another process listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if path.is_socket() and probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound to another name first, so that the path never exists without a listener or with a wider mode.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    previous = os.umask(0o117)
    try:
        listener.bind(str(draft))
        listener.listen(BACKLOG)
        draft.replace(path)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(previous)
    return listener


async def serve(
    app: web.Application,
    listeners: Sequence[socket.socket],
    *,
    socket_path: Path | None,
    shutdown_timeout: float,
    tls: ServerTls | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then complete open requests and clean up within ``shutdown_timeout`` seconds.

    Half of the timeout is for open connections, the rest for the clean-up of the application.

    ``socket_path`` is the path of the unix socket among the listeners, if any. ``tls`` applies to the others; SIGHUP
    reloads it.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if tls:
        loop.add_signal_handler(signal.SIGHUP, tls.renew)
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=IDLE_CONNECTION_SECONDS, shutdown_timeout=shutdown_timeout / 4
    )
    try:
        await runner.setup()
        for listener in listeners:
            context = tls.context if tls and listener.family != socket.AF_UNIX else None
            await accept_from(listener, runner, context)
        _spare_the_collector()
        for listener in listeners:
            log.info("listening", address=address_of(listener, socket_path, tls), version=__version__, pid=os.getpid())
        await stopping.wait()
        log.info("stopping")
        if socket_path:
            await _drain(runner, app, socket_path, shutdown_timeout / 4)
    finally:
        await runner.cleanup()


async def accept_from(listener: socket.socket, runner: web.AppRunner, context: SSLContext | None = None) -> None:
    """Serve the connections of a listener.

    uvloop accepts a single connection of each socket in an iteration of the loop (libuv pull request 3696). While a
    worker is busy, an iteration takes many milliseconds, and a burst of new connections would wait for seconds. So the
    listener is watched under several descriptors, each of which accepts one.
    """
    for _ in range(ACCEPTED_AT_ONCE - 1):
        await web.SockSite(runner, listener.dup(), backlog=BACKLOG, ssl_context=context).start()
    await web.SockSite(runner, listener, backlog=BACKLOG, ssl_context=context).start()


def _spare_the_collector() -> None:
    # Modules and routes live as long as the process: freezing them exempts them from collection. Requests leave few
    # cycles, so rarer collections cost little memory. Together this saves a sixth of the CPU time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


async def _drain(runner: web.AppRunner, app: web.Application, socket_path: Path, seconds: float) -> None:
    """Complete nginx's open requests, while nginx sends new ones to other workers.

    The socket file is removed first: nginx can open no new connection, and pending ones are still accepted. Each
    response then closes its connection. Idle connections are left for nginx to close, because a request may be in
    flight on them. TCP clients are not waited for: the runner closes their idle connections.
    """
    socket_path.unlink(missing_ok=True)  # noqa: ASYNC240 (one system call on a local path)
    app[EDGE].draining = True
    deadline = time.monotonic() + seconds
    connections_left = True
    while connections_left and time.monotonic() < deadline:
        await asyncio.sleep(DRAIN_POLL_SECONDS)
        connections_left = any(map(_is_on_a_unix_socket, runner.server.connections if runner.server else ()))


def _is_on_a_unix_socket(connection: web.RequestHandler) -> bool:
    transport = connection.transport
    return transport is not None and transport.get_extra_info("socket").family == socket.AF_UNIX


def address_of(listener: socket.socket, socket_path: Path | None, tls: ServerTls | None) -> str:
    """Return the URL that a listener serves, or the path of a unix socket."""
    if listener.family == socket.AF_UNIX:
        return str(socket_path)
    host, port = listener.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{join_host_and_port(host, port)}"
