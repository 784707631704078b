"""The errors that nginx answers itself, as pages for browsers and as JSON for programs; no worker runs."""

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import free_ports
from src.pages.languages import read_languages
from src.settings import Settings
from src.stack.nginx import Tls, render

from ..certificates import make_files
from ..processes import PATIENCE

pytestmark = pytest.mark.stack

ACCEPT = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
LANGUAGES = read_languages()


@dataclass(frozen=True)
class Front:
    """A running nginx without workers: its URLs for HTTPS and for redirects, and the directory of the sockets."""

    https: str
    http: str
    sockets: Path


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """An nginx that trusts a proxy on this host, and accepts few requests."""
    directory = tmp_path_factory.mktemp("front")
    files = make_files(directory, kind="rsa")
    both = directory / "both.pem"
    both.write_bytes(files.certificate.read_bytes() + files.key.read_bytes())
    http, https = free_ports(2)
    settings = Settings(
        _env_file=None,
        trusted_proxies="127.0.0.1",
        tls="files",
        tls_cert=files.certificate,
        tls_key=files.key,
        rate_all="1r/m",
    )
    (directory / "temp").mkdir()
    configuration = directory / "nginx.conf"
    configuration.write_text(
        render(
            settings,
            listen=[f"127.0.0.1:{http}"],
            socket_dir=directory,
            log_dir=directory,
            temp_dir=directory / "temp",
            pid_file=directory / "nginx.pid",
            processes="1",
            # To reach the sockets.
            user="root" if os.geteuid() == 0 else None,
            tls=Tls([f"127.0.0.1:{https}"], both, https),
        ),
        encoding="utf-8",
    )
    command = ["nginx", "-c", str(configuration), "-g", "daemon off;", "-e", str(directory / "error.log")]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + PATIENCE
            with socket.socket() as probe:
                while probe.connect_ex(("127.0.0.1", https)) and time.monotonic() < deadline:
                    time.sleep(0.02)
            yield Front(f"https://127.0.0.1:{https}", f"http://127.0.0.1:{http}", directory)
        finally:
            process.terminate()


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


async def check(client: ClientSession, url: str, address: str, status: int, kind: str, **request: str) -> None:
    """Send a request as a browser in each language and as a program, from an address of its own."""
    for code, language in LANGUAGES.items():
        headers = {"Accept": ACCEPT, "Accept-Language": f"nl, {code}-CH;q=0.9, en;q=0.5", "X-Forwarded-For": address}
        async with client.get(url, ssl=False, headers={**headers, **request}, allow_redirects=False) as page:
            text, title = await page.text(), language.problems[f"{kind}_title"]
        assert (status, "text/html; charset=utf-8") == (page.status, page.headers["Content-Type"])
        assert [code, f"{title} · Sealpost", title] == re.findall(r"<(?:html lang=.|title>|h1>)([^\"<]+)", text)
        assert "Accept, Accept-Language, Cookie" == page.headers["Vary"]
        assert ("no-store, no-transform", "nosniff") == (
            page.headers["Cache-Control"],
            page.headers["X-Content-Type-Options"],
        )
        assert "style-src 'sha256-" in page.headers["Content-Security-Policy"]
    for accept in ("*/*", "application/json, text/html;q=0.9", ""):
        headers = {"Accept": accept, "X-Forwarded-For": address, **request}
        async with client.get(url, ssl=False, headers=headers, allow_redirects=False) as data:
            problem = await data.json(content_type="application/problem+json")
        assert (status, status) == (data.status, problem["status"])
        assert data.headers.get("Retry-After") == page.headers.get("Retry-After")


async def test_nginx_answers_browsers_with_pages(front: Front, client: ClientSession) -> None:
    """While the workers are starting, for an unknown path, over the limits, and for a proxy without TLS."""
    await check(client, f"{front.https}/s", "192.0.2.1", 503, "starting")
    await check(client, f"{front.https}/metrics", "192.0.2.2", 404, "not_found")
    await check(client, front.http, "192.0.2.3", 421, "misdirected", **{"X-Forwarded-Proto": "https"})
    for _ in range(110):
        async with client.get(f"{front.https}/s", ssl=False, headers={"X-Forwarded-For": "192.0.2.4"}) as answer:
            pass
    assert 429 == answer.status
    await check(client, f"{front.https}/s", "192.0.2.4", 429, "busy")
    await check(client, front.http, "192.0.2.4", 429, "busy")


async def test_a_worker_that_fails_is_answered_for(front: Front, client: ClientSession) -> None:
    """502 as a page, too: the worker may have carried out the request."""

    async def fail(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_unix_server(fail, front.sockets / "worker-1.sock"):
        await check(client, f"{front.https}/s", "192.0.2.6", 502, "failed")


async def test_the_selected_language_wins(front: Front, client: ClientSession) -> None:
    """That of the URL, then that of the first cookie, as the workers choose it; `Accept-Language` after them."""
    for query, cookie, code in (
        ("", "lang=de", "de"),
        ("", "a=b; lang=es; lang=de", "es"),
        ("", "lang=xx", "fr"),
        ("?lang=zh", "lang=de", "zh"),
        ("?lang=xx", "lang=de", "de"),
        ("?lang=$host", "xlang=de", "fr"),
    ):
        headers = {"Accept": ACCEPT, "Accept-Language": "fr", "Cookie": cookie, "X-Forwarded-For": "192.0.2.7"}
        async with client.get(f"{front.https}/metrics{query}", ssl=False, headers=headers) as page:
            assert f'<html lang="{code}">' in await page.text()


async def test_a_browser_without_a_known_language_gets_english(front: Front, client: ClientSession) -> None:
    """Also if a known code is part of another one."""
    for header in ("", "nl", "deutsch", "xx-de"):
        headers = {"Accept": ACCEPT, "Accept-Language": header, "X-Forwarded-For": "192.0.2.5"}
        async with client.get(f"{front.https}/metrics", ssl=False, headers=headers) as page:
            assert '<html lang="en">' in await page.text()
