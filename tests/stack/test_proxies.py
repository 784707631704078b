"""A proxy with TLS in front of the stack, with and without a path prefix, trusted and not."""

import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from src.stack.running import RunningStack, free_port, running_stack

from ..certificates import make_files
from ..processes import PATIENCE
from .conftest import KEYS, PROBE
from .mongod import Mongod
from .traffic import assert_problem

pytestmark = pytest.mark.stack

CLIENT = "198.51.100.1"
TRUSTED = "127.0.0.1"
PROXY = """
worker_processes 1;
pid "{dir}/pid";
error_log "{dir}/error.log";
events {{ }}
http {{
    access_log off;
    client_body_temp_path "{dir}/body";
    proxy_temp_path "{dir}/proxy";
    fastcgi_temp_path "{dir}/fastcgi";
    uwsgi_temp_path "{dir}/uwsgi";
    scgi_temp_path "{dir}/scgi";
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate "{certificate}";
        ssl_certificate_key "{key}";
        proxy_set_header Host $http_host;
        # As if its clients had the address that they name: there is no other way from one machine.
        proxy_set_header X-Forwarded-For "$http_x_forwarded_for, $http_x_test_client";
        proxy_set_header X-Forwarded-Proto $scheme;
        location / {{
            proxy_pass http://{upstream};
        }}
        location /box/ {{
            proxy_pass http://{upstream}/;
            proxy_set_header Host backend;
            proxy_set_header X-Forwarded-For "$http_x_forwarded_for, $http_x_test_client";
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Prefix /box;
        }}
    }}
}}
"""


def running_proxy(directory: Path, stack: RunningStack) -> Iterator[str]:
    """Run nginx with TLS in front of a stack; yields its URL."""
    directory.mkdir()
    files = make_files(directory, kind="rsa")
    port = free_port()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        PROXY.format(
            dir=directory,
            port=port,
            certificate=files.certificate,
            key=files.key,
            upstream=stack.url.removeprefix("http://"),
        )
    )
    command = ["nginx", "-c", configuration, "-g", "daemon off;", "-e", directory / "error.log"]
    with subprocess.Popen([str(part) for part in command]) as process:
        yield f"https://127.0.0.1:{port}"
        process.terminate()
        process.wait(PATIENCE)
