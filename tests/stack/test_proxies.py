"""A proxy with TLS in front of the stack, with and without a path prefix, trusted and not."""

import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector

from bench.running_stack import RunningStack, free_port, running_stack

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


@contextmanager
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
        try:
            deadline = time.monotonic() + PATIENCE
            with socket.socket() as probe:
                while probe.connect_ex(("127.0.0.1", port)) and time.monotonic() < deadline:
                    time.sleep(0.02)
            yield f"https://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def trusting(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that trusts the proxy, with limits that few requests reach."""
    directory = tmp_path_factory.mktemp("trusting")
    environment = {
        "SEALPOST_MONGO_URL": mongod.url,
        "SEALPOST_KEYS": KEYS,
        "SEALPOST_MONGO_DATABASE": "trusting",
        "SEALPOST_TRUSTED_PROXIES": f"{TRUSTED}, 192.0.2.0/24",
        "SEALPOST_RATE_OPEN": "1r/m",
        "SEALPOST_LIMIT_REGISTER": "1 per 1 hour",
        "SEALPOST_BCRYPT_COST": "4",
    }
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


@pytest.fixture(scope="module")
def proxy(trusting: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A proxy in front of the stack that trusts it."""
    with running_proxy(tmp_path_factory.mktemp("proxy") / "nginx", trusting) as url:
        yield url


@pytest.fixture
async def browser() -> AsyncIterator[ClientSession]:
    """A client of proxies with certificates of their own."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with ClientSession(connector=TCPConnector(ssl=context)) as client:
        yield client


async def send(client: ClientSession, url: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Send a POST as a client with the address ``X-Test-Client``; return status and answer."""
    async with client.post(url, json=body, headers={"X-Test-Client": CLIENT, **headers}) as response:
        return response.status, await response.json(content_type=None)


@pytest.mark.parametrize("prefix", ["", "/box"])
async def test_links_lead_through_a_trusted_proxy(browser: ClientSession, proxy: str, prefix: str) -> None:
    """They keep https, the host and the path prefix, and open what they name; the page works there, too."""
    status, created = await send(
        browser, f"{proxy}{prefix}/generate", {"secret": "x"}, **{"X-Test-Client": "192.0.2.1"}
    )
    async with browser.get(f"{proxy}{prefix}/", headers={"Accept": "text/html"}) as response:
        page = await response.text()
    script = page.partition('<script type="module" src="./')[2].partition('"')[0]
    async with browser.get(f"{proxy}{prefix}/{script}") as asset:
        found = asset.status, asset.headers["Cache-Control"]

    assert (201, f"{proxy}{prefix}/secrets/{created['secret_key']}") == (status, created["url"])
    assert (200, "x") == (200, (await send(browser, created["url"]))[1]["secret"])
    assert (200, "public, max-age=31536000, immutable, no-transform") == found


async def test_limits_behind_a_trusted_proxy_count_each_client(browser: ClientSession, proxy: str) -> None:
    """In nginx as in the workers; an address that the client adds to X-Forwarded-For changes nothing."""

    async def open_often(client: str, **headers: str) -> list[int]:
        url = f"{proxy}/secrets/{'x' * 43}"
        return [(await send(browser, url, **{"X-Test-Client": client, **headers}))[0] for _ in range(22)]

    async def register(name: str, client: str, **headers: str) -> int:
        body = {"username": name, "password": "correct horse battery staple"}
        return (await send(browser, f"{proxy}/register", body, **{"X-Test-Client": client, **headers}))[0]

    assert [404] * 21 + [429] == await open_often("198.51.100.2")
    assert [404] * 21 + [429] == await open_often("198.51.100.3")
    assert [429] * 22 == await open_often("198.51.100.3", **{"X-Forwarded-For": "198.51.100.4"})
    assert [429] * 22 == await open_often("198.51.100.3, 192.0.2.9")
    assert [201, 429, 201] == [
        await register("ann", "198.51.100.5"),
        await register("bob", "198.51.100.5", **{"X-Forwarded-For": "198.51.100.6"}),
        await register("cid", "2001:db8::1"),
    ]


@pytest.mark.parametrize("prefix", ["", "/box"])
async def test_a_proxy_that_is_not_trusted_is_not_believed(
    browser: ClientSession, stack: RunningStack, probes: RunningStack, tmp_path: Path, prefix: str
) -> None:
    """Links lead to what it asked for, limits count it as one client, and `/readyz` says so."""
    with running_proxy(tmp_path / "stack", stack) as proxy:
        _, created = await send(browser, f"{proxy}{prefix}/generate", {"secret": "x"})
        async with browser.get(f"{proxy}{prefix}/readyz") as response:
            told = response.headers.get("Sealpost-Proxy")
    with running_proxy(tmp_path / "probes", probes) as proxy:
        _, probed = await send(browser, f"{proxy}{prefix}/generate")

    host = "backend" if prefix else proxy_host(created["url"])
    assert created["url"].startswith(f"http://{host}/secrets/")
    assert "untrusted" == told
    assert "127.0.0.1" == probed["headers"]["X-Real-IP"]
    assert [] == [name for name in ("Proto", "Host", "Prefix") if f"X-Forwarded-{name}" in probed["headers"]]


def proxy_host(url: str) -> str:
    """Return host and port of a URL."""
    return url.split("/")[2]


async def test_a_redirect_to_tls_does_not_loop(browser: ClientSession, tmp_path: Path) -> None:
    """With TLS on, a trusted proxy that has ended TLS is refused in plain words; others are redirected."""
    environment = {**PROBE, "SEALPOST_TLS": "self-signed", "SEALPOST_TRUSTED_PROXIES": TRUSTED}
    with running_stack(
        data_dir=tmp_path / "data",
        log_dir=tmp_path / "logs",
        app_module="tests.stack.probe",
        environment=environment,
    ) as running:
        with running_proxy(tmp_path / "proxy", running) as proxy:
            async with browser.get(f"{proxy}/hello", allow_redirects=False) as response:
                await assert_problem(response, 421, "misdirected")
        async with browser.get(f"{running.url}/hello", allow_redirects=False) as response:
            assert 308 == response.status
