"""Listening, serving and stopping without dropping a request."""

import asyncio
import errno
import gc
import os
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import structlog
from aiohttp import web

from .. import __version__
from ..core.addresses import join_host_and_port
from .edge import EDGE
from .tls import ServerTls

BACKLOG = 1024
IDLE_CONNECTION_SECONDS = 75.0
"""Longer than nginx keeps a connection to a worker, so that nginx is always the one to close an idle one."""
DRAIN_POLL_SECONDS = 0.05
YOUNG_OBJECTS = 20_000
"""New objects after which the collector looks for cycles; Python's own default is 700."""

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
    """Return a listening socket of mode 0660, in place of one that a dead process left behind.

    Raises `OSError`, with ``EADDRINUSE`` where a living process listens.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if path.is_socket() and probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Bound under another name first: the path never appears without a listener behind it, nor with a wider mode.
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
    """Serve until SIGTERM or SIGINT, then finish what was begun within ``shutdown_timeout`` seconds.

    Half of them are for open connections; the application's own clean-up has the rest.

    ``socket_path`` is the path of the listener that is a unix socket, if there is one. ``tls`` is for the others, and
    SIGHUP renews it.
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
            await web.SockSite(runner, listener, backlog=BACKLOG, ssl_context=context).start()
        _spare_the_collector()
        for listener in listeners:
            log.info("listening", address=address_of(listener, socket_path, tls), version=__version__, pid=os.getpid())
        await stopping.wait()
        log.info("stopping")
        if socket_path:
            await _drain(runner, app, socket_path, shutdown_timeout / 4)
    finally:
        await runner.cleanup()


def _spare_the_collector() -> None:
    # Modules and routes live as long as the process: frozen, they are not looked through again and again. Requests
    # leave few cycles, so looking for them less often costs little memory; together this is a sixth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


async def _drain(runner: web.AppRunner, app: web.Application, socket_path: Path, seconds: float) -> None:
    """Let nginx have its answers here and take its next requests elsewhere.

    The path goes first: nginx finds no worker here any more, while what had connected before is still accepted. Each
    answer then closes its connection. One without a request is left for nginx to close, because a request may be on
    its way on it. Clients of a port are not waited for here: closing their idle connections is the runner's part.
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
