"""The floor of `make bench`: bare aiohttp that says nothing at all, behind a bare nginx.

It has as many workers as the stack, on unix sockets, with uvloop and without an access log. `python -m bench.bare
SOCKET` runs one of them.
"""

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop
from aiohttp import web

from src.core.workers import WORKERS

from .plain_nginx import running_nginx
from .running_stack import free_port

PATH = "/bare"
CREATED = 201
_PATIENCE = 10.0  # seconds
_SERVER = """\
    upstream workers {{
        zone workers 256k;
        least_conn;
        {servers}
        keepalive 256;
        keepalive_requests 1000000;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        location / {{
            proxy_pass http://workers;
        }}
    }}
"""


@dataclass(frozen=True)
class Bare:
    """The running floor: its URL, and the process ids of its nginx and its workers."""

    url: str
    pids: tuple[int, ...]


@contextmanager
def bare_aiohttp(directory: Path) -> Iterator[Bare]:
    """Run bare aiohttp behind nginx until the block ends."""
    directory.mkdir(parents=True)
    port = free_port()
    sockets = [directory / f"worker-{number}.sock" for number in range(1, WORKERS + 1)]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(subprocess.Popen([sys.executable, "-m", "bench.bare", str(path)])) for path in sockets
        ]
        for worker in workers:
            stack.callback(worker.terminate)
        until = time.monotonic() + _PATIENCE
        while not all(path.exists() for path in sockets):
            if time.monotonic() > until:
                raise TimeoutError("bare aiohttp does not listen")
            time.sleep(0.05)
        servers = "\n        ".join(f'server "unix:{path}" max_fails=0;' for path in sockets)
        nginx = stack.enter_context(running_nginx(directory, _SERVER.format(servers=servers, port=port), port))
        yield Bare(f"http://127.0.0.1:{port}", (nginx.pid, *(worker.pid for worker in workers)))


async def _get(_: web.Request) -> web.Response:
    return web.Response(body=b'{"status":"ok"}', content_type="application/json")


async def _post(request: web.Request) -> web.Response:
    json.loads(await request.read())
    return web.Response(body=b'{"status":"created"}', content_type="application/json", status=CREATED)


async def _app() -> web.Application:
    app = web.Application()
    app.router.add_get(PATH, _get)
    app.router.add_post(PATH, _post)
    return app


if __name__ == "__main__":
    # wrk ends in the middle of requests, which aiohttp logs as errors.
    logging.getLogger("aiohttp.server").disabled = True
    web.run_app(_app(), path=sys.argv[1], access_log=None, print=None, loop=uvloop.new_event_loop())
