"""A plain nginx: one that receives and serves files over TLS, or with any other servers, for comparisons."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .running_stack import free_port

_CONFIGURATION = """\
{user}
worker_processes auto;
pid "{directory}/nginx.pid";
error_log "{directory}/error.log";
events {{
    worker_connections 8192;
}}
http {{
    access_log off;
    types {{}}
    client_body_temp_path "{directory}/body";
    proxy_temp_path "{directory}/proxy";
    fastcgi_temp_path "{directory}/fastcgi";
    uwsgi_temp_path "{directory}/uwsgi";
    scgi_temp_path "{directory}/scgi";
    {http}
}}
"""
_FILES = """\
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        client_max_body_size 0;
        root "{directory}/files";
        dav_methods PUT;
    }}
"""
_PATIENCE = 10.0  # seconds


@contextmanager
def plain_nginx(directory: Path, certificate: Path, key: Path) -> Iterator[str]:
    """Run nginx until the block ends, and yield its URL; a PUT stores a file there, and a GET returns it."""
    port = free_port()
    (directory / "files").mkdir(parents=True)
    server = _FILES.format(directory=directory, port=port, certificate=certificate, key=key)
    with running_nginx(directory, server, port):
        yield f"https://127.0.0.1:{port}"


@contextmanager
def running_nginx(directory: Path, http: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run nginx until the block ends; ``http`` is added to the block of that name, and a server in it uses the port."""
    nginx = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if nginx is None:
        raise FileNotFoundError("nginx")
    configuration = directory / "nginx.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            # As in the stack: started by root, nginx would switch to a user who cannot access the directory.
            user="user root;" if os.geteuid() == 0 else "",
            directory=directory,
            http=http,
        ),
        encoding="utf-8",
    )
    command = [nginx, "-e", str(directory / "error.log"), "-c", str(configuration), "-g", "daemon off;"]
    with subprocess.Popen(command) as process:
        try:
            _await_listening(port)
            yield process
        finally:
            process.terminate()


def _await_listening(port: int) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError("nginx does not listen")
