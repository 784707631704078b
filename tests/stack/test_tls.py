"""What the stack's nginx serves over TLS, and what it does not serve without."""

import json
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import pytest

from bench.running_stack import RunningStack, running_stack
from src.api.edge import STRICT_TRANSPORT
from src.core.tls.certificates import CIPHERS, self_signed_files

from ..certificates import Files, make_files
from ..processes import PATIENCE
from ..tls_offers import (
    ECDHE_RSA_GCM,
    HANDSHAKE_FAILURE,
    PROTOCOL_VERSION,
    SSL_3,
    TLS_1_0,
    TLS_1_1,
    TLS_1_2,
    WEAK,
    Acceptance,
    Refusal,
    offer,
)
from .conftest import PROBE, grep_logs
from .test_lifecycle import occupied_port, run_launcher
from .traffic import HEADERS

pytestmark = pytest.mark.stack

EVERYTHING = "ALL:COMPLEMENTOFALL:@SECLEVEL=0"
MEBIBYTE = 1024 * 1024
LINGERING_SECONDS = 6.0
STAGGER_SECONDS = 0.5
"""Between the beginnings of requests that take long: at any moment, one of them has just begun."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate with a key of RSA: with one on a curve, RSA key exchange would fail by itself."""
    return make_files(tmp_path_factory.mktemp("certificate"), kind="rsa")


@pytest.fixture(scope="module")
def secured(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Nginx with TLS before workers that do what a test asks for, with every limiter off."""
    directory = tmp_path_factory.mktemp("secured")
    environment = {
        **PROBE,
        "SEALPOST_RATE_LIMITS": "off",
        "SEALPOST_TLS": "files",
        "SEALPOST_TLS_CERT": str(files.certificate),
        "SEALPOST_TLS_KEY": str(files.key),
    }
    with running_stack(
        data_dir=directory, log_dir=directory / "logs", app_module="tests.stack.probe", environment=environment
    ) as running:
        yield running


def port_of(url: str | None) -> int:
    return int((url or "").rpartition(":")[2])


@pytest.fixture
def tls_port(secured: RunningStack) -> int:
    return port_of(secured.tls_url)


@pytest.fixture
def trusted(files: Files) -> ssl.SSLContext:
    """What a client has that trusts the authority."""
    return ssl.create_default_context(cafile=files.authority)


@dataclass(frozen=True)
class Answer:
    """What a request came to."""

    status: int
    headers: Message
    body: bytes

    def assert_problem(self, status: int, code: str) -> None:
        """Check an error against the API's shape and headers."""
        problem = json.loads(self.body)

        assert (status, status, code) == (self.status, problem["status"], problem["code"])
        assert problem["request_id"] == self.headers["X-Request-ID"]
        assert HEADERS.items() <= dict(self.headers).items()


def ask(
    url: str,
    trusted: ssl.SSLContext,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """Send a request on a connection of its own, and follow no redirect."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        connection: HTTPConnection = HTTPSConnection(parts.netloc, timeout=60, context=trusted)
    else:
        connection = HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request(method, url.partition(parts.netloc)[2], body=body, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def raw(port: int, request: bytes, trusted: ssl.SSLContext | None = None) -> bytes:
    """Send bytes as they are, over TLS where a context is given, and return all that is answered."""
    with ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        if trusted:
            connection = stack.enter_context(trusted.wrap_socket(connection, server_hostname="localhost"))
        connection.sendall(request)
        return stack.enter_context(connection.makefile("rb")).read()


def s_client(port: int, files: Files, *options: str) -> str:
    """Connect with the openssl program, which verifies what it is shown, and return what it tells."""
    assert shutil.which("openssl"), "these tests need the openssl program"
    where = ("-connect", f"127.0.0.1:{port}", "-servername", "localhost", "-verify_hostname", "localhost")
    done = subprocess.run(
        ["openssl", "s_client", *where, "-CAfile", str(files.authority), "-verify_return_error", "-ign_eof", *options],
        # A request, so that what the server sends after the handshake is waited for.
        input=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return (done.stdout + done.stderr).decode(errors="replace")


def test_no_protocol_before_tls_1_2_is_spoken(tls_port: int, files: Files) -> None:
    """Whatever the client offers besides; the openssl program is refused as well."""
    suites = (*ECDHE_RSA_GCM, *WEAK["CBC"], *WEAK["RSA key exchange"])

    # SSL 3 has no alert of its own for this.
    assert Refusal(HANDSHAKE_FAILURE) == offer(tls_port, SSL_3, suites)
    for version in (TLS_1_0, TLS_1_1):
        assert Refusal(PROTOCOL_VERSION) == offer(tls_port, version, suites)
    for option in ("-tls1", "-tls1_1"):
        assert f"SSL alert number {PROTOCOL_VERSION}" in s_client(tls_port, files, option, "-cipher", EVERYTHING)


def test_no_weak_suite_is_accepted(tls_port: int, files: Files) -> None:
    """Each class by itself and all that the openssl program has; what is good is accepted from the same hand."""
    ours = ":".join(f"-{name}" for name in CIPHERS)

    assert {name: Refusal(HANDSHAKE_FAILURE) for name in WEAK} == {
        name: offer(tls_port, TLS_1_2, suites) for name, suites in WEAK.items()
    }
    assert [Acceptance(TLS_1_2, suite) for suite in ECDHE_RSA_GCM] == [
        offer(tls_port, TLS_1_2, (*WEAK["CBC"], *WEAK["RSA key exchange"], suite)) for suite in ECDHE_RSA_GCM
    ]
    refused = s_client(tls_port, files, "-tls1_2", "-cipher", f"ALL:COMPLEMENTOFALL:{ours}:@SECLEVEL=0")
    assert f"SSL alert number {HANDSHAKE_FAILURE}" in refused


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_tls_is_served_with_forward_secrecy_and_nothing_is_kept(tls_port: int, files: Files, version: str) -> None:
    """The chain verifies, the key is agreed on a curve, nothing is compressed, and no ticket or session is given."""
    told = s_client(tls_port, files, f"-tls{version.replace('.', '_')}")

    assert re.search(rf"New, TLSv{version}, Cipher is (ECDHE|TLS_)", told)
    assert "HTTP/1.1 200 OK" in told
    assert "Server Temp Key: X25519" in told
    assert "Verify return code: 0 (ok)" in told
    assert "Compression: NONE" in told
    assert not re.search(r"(?i)session ticket|Session-ID: \w", told)


def test_every_answer_over_tls_says_to_come_back_with_it(
    secured: RunningStack, tls_port: int, trusted: ssl.SSLContext
) -> None:
    """What workers answer and what nginx answers by itself, errors included."""
    for status in (200, 404, 500):
        answer = ask(f"{secured.tls_url}/?status={status}", trusted)

        assert (status, [STRICT_TRANSPORT]) == (answer.status, answer.headers.get_all("Strict-Transport-Security"))
    missing = ask(f"{secured.tls_url}/metrics", trusted)
    large = ask(f"{secured.tls_url}/generate", trusted, "POST", bytes(MEBIBYTE + 1))
    for problem, status, code in ((missing, 404, "not_found"), (large, 413, "too_large")):
        problem.assert_problem(status, code)
        assert [STRICT_TRANSPORT] == problem.headers.get_all("Strict-Transport-Security")
    unreadable = raw(tls_port, b"nonsense\r\n\r\n", trusted)
    assert unreadable.startswith(b"HTTP/1.1 400 ")
    assert unreadable.count(f"Strict-Transport-Security: {STRICT_TRANSPORT}\r\n".encode()) == 1


def test_a_worker_hears_from_nginx_alone_that_there_was_tls(secured: RunningStack, trusted: ssl.SSLContext) -> None:
    """Links begin with https because of that, whatever the client says."""
    forged = {"X-Forwarded-Proto": "http", "X-Forwarded-Host": "forged", "Forwarded": "proto=http"}
    headers = json.loads(ask(f"{secured.tls_url}/", trusted, headers=forged).body)["headers"]

    assert "https" == headers["X-Forwarded-Proto"]
    assert secured.tls_url == f"https://{headers['Host']}"
    assert not {"X-Forwarded-Host", "Forwarded"} & {*headers}


async def test_http_redirects_and_serves_nothing(secured: RunningStack, trusted: ssl.SSLContext) -> None:
    """Every path and method is sent to the same over TLS, with the headers of every answer, and no log has the path."""
    targets = ["/", "/generate", "/secrets/PLAINKEY?PLAINKEY=1", "/healthz", "/metrics", "//x/%0d%0aX:1"]
    for method in ("GET", "POST", "DELETE"):
        for target in targets:
            answer = ask(secured.url + target, trusted, method, b"PLAINKEY")

            assert (308, f"{secured.tls_url}{target}") == (answer.status, answer.headers["Location"])
            assert HEADERS.items() <= dict(answer.headers).items()
            assert 32 == len(answer.headers["X-Request-ID"])
            assert "Strict-Transport-Security" not in answer.headers
            assert b"pid" not in answer.body
    ask(f"{secured.url}/generate", trusted, "POST", bytes(MEBIBYTE + 1)).assert_problem(413, "too_large")
    redirect = ask(f"{secured.url}/generate", trusted, "POST", b"body")
    told = json.loads(ask(redirect.headers["Location"], trusted, "POST", b"body").body)

    assert ("POST", 4) == (told["method"], told["length"])
    assert [] == await grep_logs(secured, "PLAINKEY")


@pytest.mark.parametrize(
    ("request_", "status", "location"),
    [
        (b"GET /x HTTP/1.1\r\nHost: words.example:81\r\n", 308, "https://words.example:{port}/x"),
        (b"GET /x HTTP/1.1\r\nHost: [::1]:81\r\n", 308, "https://[::1]:{port}/x"),
        (b"GET http://evil.example/x HTTP/1.1\r\nHost: words.example\r\n", 308, "https://words.example:{port}/x"),
        (b"GET /x HTTP/1.0\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\nHost: a@evil.example\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\nHost: a\\evil.example\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\nHost: a?evil\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\nHost: a\tb\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\nHost: \xc3\xbc\r\n", 400, None),
        (b"GET /x\xff HTTP/1.1\r\nHost: a\r\n", 400, None),
        (b"TRACE /x HTTP/1.1\r\nHost: a\r\n", 405, None),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n", 414, None),
    ],
    ids=lambda value: value[-40:].decode(errors="replace") if isinstance(value, bytes) else str(value),
)
def test_the_redirect_leads_to_this_service_or_nowhere(
    secured: RunningStack, tls_port: int, request_: bytes, status: int, location: str | None
) -> None:
    """A Host header that is no host, or a request that cannot be read, is a problem in the API's shape."""
    head, _, body = raw(port_of(secured.url), request_ + b"Connection: close\r\n\r\n").partition(b"\r\n\r\n")
    found = re.findall(rb"(?m)^Location: (.*)\r$", head)

    assert f" {status} ".encode() in head.splitlines()[0]
    assert [location.format(port=tls_port).encode()] * (location is not None) == found if location else found == []
    if location is None:
        assert status == json.loads(body)["status"]


def test_plain_http_on_the_port_of_tls_is_sent_to_tls(tls_port: int) -> None:
    """Whoever types http in place of https gets there, too."""
    answer = raw(tls_port, b"POST /x HTTP/1.1\r\nHost: localhost\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 308 ")
    assert f"Location: https://localhost:{tls_port}/x\r\n".encode() in answer


def test_a_certificate_is_renewed_and_no_request_is_dropped(
    secured: RunningStack, tls_port: int, files: Files, trusted: ssl.SSLContext, tmp_path: Path
) -> None:
    """Those that are under way are answered, those that come are served, and a broken certificate changes nothing."""
    renewed, broken = (make_files(tmp_path, name=name, kind="rsa") for name in ("renewed", "broken"))
    trusted.load_verify_locations(renewed.authority)
    broken.key.write_text("no key")
    done = threading.Event()

    def work(method: str, seconds: float, begins: float = 0) -> Counter[int]:
        statuses = Counter[int]()
        time.sleep(begins)
        while not done.is_set():
            statuses[ask(f"{secured.tls_url}/generate?sleep={seconds}", trusted, method, b"x").status] += 1
        return statuses

    def shown() -> str:
        return ssl.get_server_certificate(("127.0.0.1", tls_port))

    def install(new: Files) -> None:
        new.certificate.replace(files.certificate)
        new.key.replace(files.key)

    before = shown()
    with ThreadPoolExecutor(20) as pool:
        try:
            brief = [pool.submit(work, method, 0.02) for method in ("GET", "POST") for _ in range(4)]
            long = [pool.submit(work, "POST", LINGERING_SECONDS, number * STAGGER_SECONDS) for number in range(12)]
            install(broken)
            time.sleep(3)

            assert before == shown()
            install(renewed)
            deadline = time.monotonic() + PATIENCE
            # For a moment an old process of nginx accepts connections beside the new ones.
            while (now := shown()) != files.certificates[0].decode():
                assert before == now
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            done.set()
    statuses = sum((one.result() for one in (*brief, *long)), Counter[int]())
    renewed.authority.replace(files.authority)

    assert {200} == set(statuses)
    assert statuses[200] > 100


def test_a_self_signed_certificate_is_made_and_limits_count_on_both_ports(tmp_path: Path) -> None:
    """Its key is for its owner alone, HTTP leads to the public address, and after a burst redirects end as well."""
    environment = {
        **PROBE,
        "SEALPOST_TLS": "self-signed",
        "SEALPOST_PUBLIC_URL": "https://words.example/base",
        "SEALPOST_RATE_ALL": "1r/m",
    }
    with running_stack(
        data_dir=tmp_path, log_dir=tmp_path / "logs", app_module="tests.stack.probe", environment=environment
    ) as running:
        certificate, key = self_signed_files(tmp_path)
        modes = {path.name: path.stat().st_mode & 0o777 for path in (certificate, key, running.run_dir / "tls.pem")}
        trusted = ssl.create_default_context(cafile=certificate)
        redirect = ask(f"{running.url}/secrets/x?y", trusted)
        statuses = Counter(ask(f"{url}/", trusted).status for url in (running.url, running.tls_url) for _ in range(60))
        for url in (running.url, running.tls_url):
            ask(f"{url}/", trusted).assert_problem(429, "too_many")

    assert {"cert.pem": 0o600, "key.pem": 0o600, "tls.pem": 0o600} == modes
    assert not (running.run_dir / "tls.pem").exists()
    assert (308, "https://words.example/base/secrets/x?y") == (redirect.status, redirect.headers["Location"])
    assert {200, 308, 429} == set(statuses)
    assert 60 == statuses[308]
    assert 30 < statuses[200] < 60


def test_what_cannot_be_served_is_said_before_anything_starts(tmp_path: Path) -> None:
    """A certificate that is not there, a port that is taken or the same: the message says what to change."""
    work = tmp_path / "work"
    work.mkdir()
    with occupied_port() as port, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ports = ("--port", str(free.getsockname()[1]), "--tls-port", str(port))
        free.close()
        said = [
            run_launcher(work, *ports, SEALPOST_TLS="files", SEALPOST_TLS_CERT="none", SEALPOST_TLS_KEY="none"),
            run_launcher(work, *ports, SEALPOST_TLS="self-signed"),
            run_launcher(work, *ports[:2], "--tls-port", ports[1], SEALPOST_TLS="self-signed"),
        ]

    assert [1] * 3 == [code for code, _ in said]
    assert "none cannot be read: No such file" in said[0][1]
    assert f"Cannot listen on 127.0.0.1:{port}" in said[1][1]
    assert "HTTP and HTTPS cannot share port" in said[2][1]
    assert all("TLS_PORT=" in message for _, message in said[1:])
    assert [] == list(work.iterdir())
