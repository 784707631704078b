"""The doctor detects faults of nginx or a proxy at the public address, and invalid certificates."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from bench.running_stack import free_port
from src.core.clock import utc_now
from src.manage.doctor import front as front_checks
from src.manage.doctor.certificates import examine_certificate_files
from src.manage.doctor.examination import Outcome, Status
from src.manage.doctor.front import examine_front
from src.settings import Settings

from .certificates import make_files
from .examination import collect, marks, serving
from .processes import PATIENCE


def certificate(directory: Path, *, begins: timedelta = timedelta(days=-400), ends: timedelta) -> tuple[Path, Path]:
    """Create a self-signed certificate for 127.0.0.1; return its file and its key's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sealpost test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(utc_now() + begins).not_valid_after(utc_now() + ends)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files[1].write_bytes(key.private_bytes(*encoding))
    return files


HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Request-ID": "1",
    "Content-Security-Policy": "default-src 'none'",
}


def tcp(port: int = 0) -> socket.socket:
    """Return a socket at a port of the loopback address."""
    return socket.create_server(("127.0.0.1", port))


def port_of(listener: socket.socket) -> int:
    """Return the port."""
    return int(listener.getsockname()[1])


def readiness(headers: dict[str, str], *, overlong: int = 413, metrics: int = 404) -> Callable[..., web.Response]:
    """Answer as a proxy does, correct or faulty."""

    def answer(request: web.Request) -> web.Response:
        if request.path == "/readyz":
            return web.json_response({"status": "ready"}, headers=headers)
        return web.Response(status=metrics if request.path == "/metrics" else overlong)

    return answer


async def front(url: str) -> dict[str, Outcome]:
    """Check the server at an address."""
    return await collect(examine_front(URL(url)))


async def test_a_permissive_front_is_reported() -> None:
    """Missing headers, public metrics, bodies over the limit, plain HTTP; and a proxy's own errors."""
    careless, broken, foreign = tcp(), tcp(), tcp()
    async with (
        serving(readiness({}, overlong=400, metrics=200), careless),
        serving(lambda _: web.Response(status=502), broken),
        serving(lambda _: web.Response(text="It works!", headers={"Location": "http://[/"}), foreign),
    ):
        near = await front(f"http://127.0.0.1:{port_of(careless)}")
        # Linux treats it as an address of this host; the doctor does not treat it as loopback.
        far = await front(f"http://0.0.0.0:{port_of(careless)}")
        failing = await front(f"http://localhost:{port_of(broken)}/")
        other = await front(f"http://127.0.0.1:{port_of(foreign)}")

    assert {"security headers", "body limit"} == marks(near, Status.FAILED)
    assert {"metrics", "HTTPS", "certificate"} == marks(near, Status.NOT_CHECKED)
    assert {"security headers", "body limit", "metrics"} == marks(far, Status.FAILED)
    assert "can be intercepted" in far["HTTPS"].found
    assert f"missing or changed: {', '.join(sorted(HEADERS))}" == near["security headers"].found
    assert "a body over 1 MiB is answered 400" == near["body limit"].found
    assert "answers 502: nginx cannot reach any worker" in failing["front"].found
    assert "answers 200, but not as Sealpost" in other["front"].found


async def test_untrusted_proxies_and_starting_workers_are_reported() -> None:
    """The workers show an untrusted proxy in a header; nginx's response shows that no worker is up."""
    forwarded, starting = tcp(), tcp()
    async with (
        serving(readiness({**HEADERS, "Sealpost-Proxy": "untrusted"}), forwarded),
        serving(lambda _: web.json_response({"code": "starting"}, status=503), starting),
    ):
        proxied = await front(f"http://127.0.0.1:{port_of(forwarded)}")
        begun = await front(f"http://127.0.0.1:{port_of(starting)}")

    assert {"proxy"} == marks(proxied, Status.WARNING)
    assert "SEALPOST_TRUSTED_PROXIES" in (proxied["proxy"].advice or "")
    assert "answers 503: nginx cannot reach any worker" in begun["front"].found


async def test_a_hanging_or_missing_front_is_reported_in_time() -> None:
    """The first request shows it, and the others are skipped."""
    hanging, cutting = tcp(), tcp()

    def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with serving(cut, cutting):
        async with asyncio.timeout(PATIENCE):
            hung, was_cut, gone = await asyncio.gather(
                front(f"http://127.0.0.1:{port_of(hanging)}"),
                front(f"http://127.0.0.1:{port_of(cutting)}"),
                front(f"http://127.0.0.1:{free_port()}"),
            )
    hanging.close()

    assert "no answer within 5 s" == hung["front"].found
    assert "does not answer: ServerDisconnectedError" in was_cut["front"].found
    assert "does not answer: connection refused" in gone["front"].found
    for outcomes in (hung, was_cut, gone):
        assert {"front"} == outcomes.keys() - marks(outcomes, Status.NOT_CHECKED)


async def test_plain_http_has_to_redirect_to_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If it does, all other checks use HTTPS, and a trusted certificate is ok."""
    files = certificate(tmp_path, ends=timedelta(days=100))
    monkeypatch.setenv("SSL_CERT_FILE", str(files[0]))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    secure, plain, bare = tcp(), tcp(), tcp()
    address = f"https://127.0.0.1:{port_of(secure)}"
    strict = {**HEADERS, "Strict-Transport-Security": "max-age=63072000"}

    def lead(request: web.Request) -> web.Response:
        return web.Response(status=308, headers={"Location": f"{address}{request.path}"})

    async with (
        serving(readiness(strict), secure, ssl_context=context),
        serving(lead, plain),
        serving(readiness(HEADERS), bare, ssl_context=context),
    ):
        led = await front(f"http://127.0.0.1:{port_of(plain)}/")
        given = await front(address)
        lax = await front(f"https://127.0.0.1:{port_of(bare)}")

    assert set(led) == marks(led, Status.OK)
    assert f"plain HTTP redirects to {address}/: 308" == led["HTTPS"].found
    assert {"HTTPS"} == marks(given, Status.NOT_CHECKED)
    assert {"security headers"} == marks(lax, Status.WARNING)
    assert "Strict-Transport-Security is missing" == lax["security headers"].found
    assert "99 more days; this host trusts it" in led["certificate"].found


@pytest.mark.parametrize(
    ("begins", "ends", "mark", "said"),
    [
        (-400, 60, Status.WARNING, "does not trust it: self-signed certificate"),
        (-400, 20, Status.WARNING, "19 more days"),
        (-400, -1, Status.FAILED, "it expired on "),
        (2, 60, Status.FAILED, "it is not valid before "),
    ],
)
async def test_an_expiring_or_invalid_certificate_is_reported(
    tmp_path: Path, begins: int, ends: int, mark: Status, said: str
) -> None:
    """It is read from the server, trusted or not."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = certificate(tmp_path, begins=timedelta(days=begins), ends=timedelta(days=ends))
    context.load_cert_chain(*files)
    listener = tcp()
    async with serving(readiness(HEADERS), listener, ssl_context=context):
        outcomes = await front(f"https://127.0.0.1:{port_of(listener)}")

    assert {"front", "proxy", "metrics", "body limit"} == marks(outcomes, Status.OK)
    assert mark is outcomes["certificate"].status
    assert said in outcomes["certificate"].found


async def test_an_address_without_tls_is_reported() -> None:
    """Another program is at the address, or none."""
    listener = tcp()
    async with serving(readiness(HEADERS), listener):
        plain = await front(f"https://127.0.0.1:{port_of(listener)}")
    gone = await front(f"https://127.0.0.1:{free_port()}")

    assert "presents no certificate: TLS fails (" in plain["certificate"].found
    assert "does not answer: TLS fails (" in plain["front"].found
    assert "presents no certificate: connection refused" in gone["certificate"].found


async def test_plain_http_beside_https_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own port, if HTTPS has another: redirecting, served in the clear, or absent."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate(tmp_path, ends=timedelta(days=100)))
    secure, leading, serving_all = tcp(), tcp(), tcp()
    address = f"https://127.0.0.1:{port_of(secure)}"
    monkeypatch.setattr(front_checks, "_HTTPS_PORT", port_of(secure))
    found = []

    async with (
        serving(readiness(HEADERS), secure, ssl_context=context),
        serving(lambda _: web.Response(status=301, headers={"Location": address}), leading),
        serving(readiness(HEADERS), serving_all),
    ):
        for port in (port_of(leading), port_of(serving_all), free_port()):
            monkeypatch.setattr(front_checks, "_HTTP_PORT", port)
            found.append((await front(address))["HTTPS"])

    assert [Status.OK, Status.FAILED, Status.OK] == [outcome.status for outcome in found]
    assert "plain HTTP is answered 200" == found[1].found
    assert "nothing answers plain HTTP" == found[2].found


async def test_the_files_of_a_certificate_are_checked(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    """Valid ones are ok; files that expire soon, have expired, do not match or are missing are reported."""
    good, soon = make_files(tmp_path), make_files(tmp_path, name="soon", ends=timedelta(days=3))
    over = make_files(tmp_path, name="over", begins=timedelta(days=-9), ends=timedelta(days=-1))
    cases: list[tuple[dict[str, object], Status, str]] = [
        ({"tls_cert": good.certificate, "tls_key": good.key}, Status.OK, "29 more days"),
        ({"tls_cert": soon.certificate, "tls_key": soon.key}, Status.WARNING, "2 more days"),
        ({"tls_cert": over.certificate, "tls_key": over.key}, Status.FAILED, "it expired on"),
        ({"tls_cert": good.certificate, "tls_key": soon.key}, Status.FAILED, "soon.key.pem"),
        ({"tls_cert": tmp_path / "none", "tls_key": good.key}, Status.FAILED, "none"),
        ({}, Status.FAILED, "SEALPOST_TLS=files requires SEALPOST_TLS_CERT and SEALPOST_TLS_KEY"),
        ({"tls": "self-signed", "data_dir": tmp_path}, Status.NOT_CHECKED, "the stack creates it"),
        ({"tls": "off"}, Status.NOT_CHECKED, "TLS is off"),
    ]

    outcomes = [
        await examine_certificate_files(make_settings(**{"tls": "files", **settings}), {}) for settings, _, _ in cases
    ]
    elsewhere = await examine_certificate_files(make_settings(tls="files"), {"RUN_DIR": "/run/sealpost"})

    assert [mark for _, mark, _ in cases] == [outcome.status for outcome in outcomes]
    for (_, _, said), outcome in zip(cases, outcomes, strict=True):
        assert said in outcome.found
    assert Status.NOT_CHECKED is elsewhere.status
