"""TLS: settings, nginx's configuration, renewal, and a single process that serves it."""

import asyncio
import re
import signal
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from src.api.edge import STRICT_TRANSPORT
from src.command import main
from src.core.tls.certificates import CIPHERS, CertificateError, load_context, read_pair, self_signed_files
from src.settings import Settings, SettingsError, read_settings
from src.stack.nginx import Tls, render
from src.stack.served_certificate import ServedCertificate, check_certificate, provide_certificate

from .certificates import DAY, Files, make_files
from .processes import PATIENCE, run_app
from .tls_offers import ECDHE_RSA_GCM, TLS_1_1, TLS_1_2, WEAK, Acceptance, Refusal, offer

PLACE = Path("/run/sealpost")
READ, REFUSED = "certificate loaded", "certificate cannot be loaded: the old one stays in use"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({"TLS": "on"}, "SEALPOST_TLS: "),
        ({"TLS": "files", "TLS_CERT": "s3cret"}, "set both"),
        ({"TLS": "files", "TLS_KEY": "s3cret"}, "set both"),
        ({"TLS_CERT": "s3cret", "TLS_KEY": "s3cret"}, "require SEALPOST_TLS=files"),
        ({"TLS": "self-signed", "TLS_CERT": "s3cret", "TLS_KEY": "s3cret"}, "require SEALPOST_TLS=files"),
        *(
            ({"TLS": "self-signed", "PUBLIC_URL": url}, "SEALPOST_PUBLIC_URL must begin with https://")
            for url in (
                "http://s3cret",
                "https://s3cret$x",
                'https://s3cret/"',
                "https://ü",
                "https://a@b",
                "https://a:b",
            )
        ),
    ],
)
def test_settings_that_contradict_each_other_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], told: str
) -> None:
    """A certificate that would not be served, and links without TLS, are reported before the start."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment.items():
        monkeypatch.setenv(f"SEALPOST_{name}", value)

    with pytest.raises(SettingsError) as caught:
        read_settings()

    assert told in str(caught.value)
    assert "s3cret" not in str(caught.value)


def rendered(port: int = 8443, **settings: Any) -> str:
    return render(
        Settings(_env_file=None, tls="self-signed", **settings),
        listen=["127.0.0.1:80", "[::1]:80"],
        socket_dir=PLACE,
        log_dir=PLACE,
        temp_dir=PLACE,
        pid_file=PLACE / "nginx.pid",
        tls=Tls(["127.0.0.1:443", "[::1]:443"], PLACE / "tls.pem", port),
    )


def test_http_only_redirects_where_there_is_tls() -> None:
    """Only the addresses with TLS lead to workers, and limits apply to both."""
    api, redirecting = re.findall(r"(?s)\n    server \{\n(.*?)\n    \}", rendered())

    assert re.findall(r"listen (.+);", api) == [f"{host}:443 ssl backlog=4096" for host in ("127.0.0.1", "[::1]")]
    assert re.findall(r"listen (.+);", redirecting) == [f"{host}:80 backlog=4096" for host in ("127.0.0.1", "[::1]")]
    assert "proxy_pass" in api
    assert "proxy_pass" not in redirecting
    for server in (api, redirecting):
        assert "limit_req zone=all" in server
        assert "limit_conn connections" in server
    assert not re.search(r"limit_(req|conn)", rendered(rate_limits="off"))
    assert not re.findall(r"%\{\w+\}", rendered())


def test_without_tls_nothing_of_it_is_left() -> None:
    """Neither a TLS directive nor a redirect."""
    text = render(
        Settings(_env_file=None),
        listen=["80"],
        socket_dir=PLACE,
        log_dir=PLACE,
        temp_dir=PLACE,
        pid_file=PLACE / "nginx.pid",
    )

    assert not re.search(r"ssl|308|redirect", text.partition("\nhttp {")[2])
    assert ["80 backlog=4096"] == re.findall(r"listen (.+);", text)


@pytest.mark.parametrize(
    ("port", "public_url", "target"),
    [
        (8443, None, "https://$redirect_host:8443$request_uri"),
        (443, None, "https://$redirect_host$request_uri"),
        (8443, "https://words.example", "https://words.example$request_uri"),
        (8443, "https://words.example:9443/base/", "https://words.example:9443/base$request_uri"),
    ],
)
def test_the_redirect_leads_to_where_links_lead(port: int, public_url: str | None, target: str) -> None:
    """To the public URL if set, otherwise to the request's host, on the TLS port."""
    text = rendered(port, public_url=public_url)

    assert {target} == set(re.findall(r'return 308 "(.*)";', text))


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("words.example", "words.example"),
        ("words.example:8080", "words.example"),
        ("WORDS.example.", "WORDS.example."),
        ("127.0.0.1:1", "127.0.0.1"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        *(
            (host, None)
            for host in ("", "a b", "a/b", "a@b", "a:b", "a\n", "a\r\nX: y", "[::1", "ü", "a" * 254, "$host")
        ),
    ],
)
def test_an_invalid_host_is_not_redirected(host: str, found: str | None) -> None:
    """An invalid Host header leads nowhere."""
    rules = re.search(r"map \$http_host \$redirect_host \{(.*?)\n    \}", rendered(), re.DOTALL)

    assert rules
    matches = [
        # PCRE's \z and (?<name>) are \Z and (?P<name>) in Python.
        re.search(rule.replace(r"\z", r"\Z").replace("?<", "?P<"), host)
        for rule in re.findall(r'"~(\S+)" \$redirect_\w+;', rules[1])
    ]

    assert 2 == len(matches)
    assert [found] * (found is not None) == [match[1] for match in matches if match]


def test_nginx_and_one_process_take_the_same_suites(tmp_path: Path) -> None:
    """Each has forward secrecy and authenticated encryption, and OpenSSL knows all of them."""
    files = make_files(tmp_path)
    context = load_context(files.certificate, files.key)
    of_process = {suite["name"] for suite in context.get_ciphers() if suite["protocol"] != "TLSv1.3"}

    assert set(CIPHERS) == of_process
    assert [":".join(CIPHERS)] == re.findall(r"ssl_ciphers (.+);", rendered())
    assert all(re.fullmatch(r"ECDHE-(ECDSA|RSA)-(AES\d+-GCM-SHA\d+|CHACHA20-POLY1305)", name) for name in CIPHERS)
    assert (ssl.TLSVersion.TLSv1_2, 0) == (context.minimum_version, context.num_tickets)


def test_a_certificate_is_checked_before_anything_is_made(tmp_path: Path) -> None:
    """An invalid one of the operator ends the start; unused files are not read."""
    none: Any = {"tls_cert": tmp_path / "none", "tls_key": tmp_path / "none"}

    assert not check_certificate(Settings(_env_file=None))
    assert check_certificate(Settings(_env_file=None, tls="self-signed", data_dir=tmp_path / "data"))
    with pytest.raises(CertificateError, match="none cannot be read"):
        check_certificate(Settings(_env_file=None, tls="files", **none))
    assert [] == list(tmp_path.iterdir())


def test_a_self_signed_certificate_is_provided(tmp_path: Path) -> None:
    """It is created once and announced; nginx's private copy is removed afterwards."""
    settings = Settings(_env_file=None, tls="self-signed", data_dir=tmp_path, public_url="https://words.example")
    served, said = tmp_path / "tls.pem", list[str]()
    served.touch()
    for _ in range(2):
        provided = provide_certificate(settings, "192.0.2.7", served, said.append)

        assert provided
        assert read_pair(*self_signed_files(tmp_path)) == read_pair(served, served)
        assert 0o600 == served.stat().st_mode & 0o777
        provided.remove()

        assert not served.exists()
    assert [f"Created a self-signed certificate. Clients must trust {tmp_path}/tls/cert.pem."] == said


def test_without_tls_no_copy_of_a_key_is_left(tmp_path: Path) -> None:
    """The copy of an earlier run with TLS is removed."""
    (tmp_path / "tls.pem").touch()

    assert provide_certificate(Settings(_env_file=None), "", tmp_path / "tls.pem", print) is None
    assert [] == list(tmp_path.iterdir())


class Clock:
    """Simulated time."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Follower:
    """The launcher's handling of a certificate: check it periodically, and pass on reports."""

    def __init__(self, files: Files, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        self._clock = Clock()
        monkeypatch.setattr("src.stack.served_certificate.time", self._clock)
        self._served = ServedCertificate(files.certificate, files.key, path)
        self._served.install()

    def look(self, *, after: float) -> bool:
        self._clock.now += after
        return self._served.follow(self.said.append)


def test_a_renewed_certificate_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once both files are unchanged for a while, not while one of them is still the old one."""
    files, renewed = make_files(tmp_path, name="first"), make_files(tmp_path, name="second")
    follower = Follower(files, tmp_path / "served", monkeypatch)
    looks = [follower.look(after=100)]
    renewed.certificate.replace(files.certificate)
    looks += [follower.look(after=1), follower.look(after=1)]
    renewed.key.replace(files.key)
    looks += [follower.look(after=1) for _ in range(2)]

    assert not any(looks)
    assert follower.look(after=1)
    assert not follower.look(after=100)
    pair = read_pair(files.certificate, files.key)
    assert pair == read_pair(tmp_path / "served", tmp_path / "served")
    assert [
        f"The certificate has changed, and nginx reloads it. It expires on {pair.not_after:%Y-%m-%d}."
    ] == follower.said


def test_a_broken_renewal_leaves_the_old_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid one is reported once, and the next one is tried again."""
    files, renewed = make_files(tmp_path, name="first"), make_files(tmp_path, name="second")
    ended = make_files(tmp_path, name="third", begins=-2 * DAY, ends=-DAY)
    follower = Follower(files, tmp_path / "served", monkeypatch)
    before = (tmp_path / "served").read_text()
    looks = list[bool]()

    def change(certificate: Path, key: Path) -> None:
        certificate.replace(files.certificate)
        key.replace(files.key)
        looks.extend(follower.look(after=1) for _ in range(6))

    change(ended.certificate, ended.key)
    change(renewed.certificate, make_files(tmp_path, name="fourth").key)
    files.key.unlink()
    looks.extend(follower.look(after=1) for _ in range(6))
    (tmp_path / ".served.new").mkdir()
    last = make_files(tmp_path, name="fifth")
    change(last.certificate, last.key)

    assert not any(looks)
    assert before == (tmp_path / "served").read_text()
    for told, text in zip(
        ("expired on", "is not the key", "cannot be read", "cannot be written"), follower.said, strict=True
    ):
        assert told in text
    (tmp_path / ".served.new").rmdir()
    files.key.touch()
    assert [False, False, True] == [follower.look(after=1) for _ in range(3)]


async def test_without_tls_there_is_no_hsts(
    client: TestClient[web.Request, web.Application],
) -> None:
    """A browser would have to ignore it, and a proxy might pass it on."""
    async with client.get("/healthz") as response:
        assert "Strict-Transport-Security" not in response.headers


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tls-cert", "c"], "--tls-cert and --tls-key must be used together"),
        (["--tls-key", "k"], "--tls-cert and --tls-key must be used together"),
        (["-U", "/tmp/x", "--tls-cert", "c", "--tls-key", "k"], "TLS requires a TCP port"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    """A certificate requires its key and a port."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)

    assert 2 == caught.value.code
    assert told in capsys.readouterr().err


async def served_by(port: int) -> str:
    """Return the certificate that a local server shows to a client without SNI."""
    return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))


@pytest.mark.lifecycle
async def test_one_process_serves_tls_and_renews_its_certificate(
    mongo_directory: Path, tmp_path: Path, unused_tcp_port: int
) -> None:
    """Links begin with https, every response has HSTS, and SIGHUP loads a valid certificate."""
    files, renewed = make_files(tmp_path, kind="rsa"), make_files(tmp_path, name="renewed")
    url, output = f"https://localhost:{unused_tcp_port}", tmp_path / "out"
    trust = ssl.create_default_context(cafile=files.authority)
    arguments = ("-P", str(unused_tcp_port), "--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    environment = {"SEALPOST_DATA_DIR": str(mongo_directory)}

    async def log_has(*events: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while events != tuple(re.findall(r'"event":"(certificate [^"]+)"', output.read_text())):
                await asyncio.sleep(0.02)

    async with (
        run_app(*arguments, url=url, output=output, environment=environment, trust=trust) as app,
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=trust)) as session,
    ):
        await app.ready()
        async with session.post("/generate", json={"secret": "s"}) as created, session.get("/none") as missing:
            answers = [created, missing]
            link = (await created.json())["url"]
        reader, writer = await asyncio.open_connection("localhost", unused_tcp_port, ssl=trust)
        writer.write(b"nonsense\r\n\r\n")
        unreadable = await reader.read()
        writer.close()
        await writer.wait_closed()

        assert [201, 404] == [answer.status for answer in answers]
        assert {STRICT_TRANSPORT} == {answer.headers["Strict-Transport-Security"] for answer in answers}
        assert f"Strict-Transport-Security: {STRICT_TRANSPORT}".encode() in unreadable
        assert link.startswith(f"{url}/secrets/")
        assert Refusal(None) == await asyncio.to_thread(offer, unused_tcp_port, TLS_1_1, WEAK["CBC"])
        assert Acceptance(TLS_1_2, ECDHE_RSA_GCM[0]) == await asyncio.to_thread(
            offer, unused_tcp_port, TLS_1_2, ECDHE_RSA_GCM[:1]
        )
        before = await served_by(unused_tcp_port)
        renewed.certificate.replace(files.certificate)
        app.process.send_signal(signal.SIGHUP)
        await log_has(READ, REFUSED)
        assert before == await served_by(unused_tcp_port)
        renewed.key.replace(files.key)
        app.process.send_signal(signal.SIGHUP)
        await log_has(READ, REFUSED, READ)
        assert files.certificates[0].decode() == await served_by(unused_tcp_port)
        async with session.get("/hello") as answer:
            assert 200 == answer.status
    assert f'"address":"https://127.0.0.1:{unused_tcp_port}"' in output.read_text()
