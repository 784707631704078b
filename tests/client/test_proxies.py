"""The proxy of the environment: which one is used, for what, and what is said where it does not work."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from src.client.errors import WrongUsage
from src.client.proxies import find_proxy

from .certificates import make_certificate, tls_server
from .conftest import Typed
from .proxy import forward_proxy
from .servers import odd_server, reply
from .test_transport import RECEIPT

HOST = "sealpost.test"
COMMAND = ("receipt", "A" * 60, "--json", "--url")
SECURE, PLAIN = "https://example.org", "http://example.org:8080"


def port_of(url: str) -> int:
    """Return the port of a URL."""
    port = urlsplit(url).port
    assert port
    return port


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        (SECURE, {}, None),
        (SECURE, {"HTTPS_PROXY": "http://p:3128"}, "http://p:3128"),
        (SECURE, {"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2", "ALL_PROXY": "http://c:3"}, "http://a:1"),
        (SECURE, {"https_proxy": "", "ALL_PROXY": "http://c:3"}, "http://c:3"),
        (SECURE, {"all_proxy": "https://c"}, "https://c:443"),
        (SECURE, {"HTTPS_PROXY": "p:3128"}, "http://p:3128"),
        (SECURE, {"HTTPS_PROXY": "http://[::1]:3128/"}, "http://[::1]:3128"),
        (SECURE, {"HTTP_PROXY": "http://p:3128"}, None),
        (PLAIN, {"HTTPS_PROXY": "http://p:3128"}, None),
        (PLAIN, {"HTTP_PROXY": "http://p"}, "http://p:80"),
        (PLAIN, {"HTTP_PROXY": "http://p:3128", "REQUEST_METHOD": "GET"}, None),
        (PLAIN, {"http_proxy": "http://p:3128", "REQUEST_METHOD": "GET"}, "http://p:3128"),
        ("http://127.0.0.1:8080", {"ALL_PROXY": "http://p:3128"}, None),
        ("https://localhost", {"ALL_PROXY": "http://p:3128"}, None),
        ("https://[::1]", {"ALL_PROXY": "http://p:3128"}, None),
    ],
)
def test_the_variables_are_read_as_curl_reads_them(url: str, environment: dict[str, str], expected: str | None) -> None:
    """By scheme, lower case first; never for this machine."""
    found = find_proxy(url, environment)

    assert expected == (found.url if found else None)


@pytest.mark.parametrize(
    ("url", "exempt", "is_direct"),
    [
        *(
            (SECURE, exempt, True)
            for exempt in ("*", "example.org", ".org", "a.b, EXAMPLE.org", "*.org", "x example.org")
        ),
        *((SECURE, exempt, False) for exempt in ("", "ample.org", "example.org:8443", "www.example.org", "10.0.0.0/8")),
        (SECURE, "example.org:443", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3", "10.1.2.3", True),
        ("https://10.1.2.3", "10.1.2.4,11.0.0.0/8", False),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", True),
        ("https://[2001:db8::1]", "2001:db8::/32", True),
        ("https://[2001:db8::1]", "2001:db9::/32", False),
    ],
)
def test_some_hosts_are_reached_directly(url: str, exempt: str, is_direct: bool) -> None:
    """Those of NO_PROXY: names with what is below them, addresses, networks."""
    for name in ("NO_PROXY", "no_proxy"):
        assert is_direct == (find_proxy(url, {"HTTPS_PROXY": "http://p:3128", name: exempt}) is None)


@pytest.mark.parametrize(
    "value", ["socks5://u:hunter2@p:1080", "http://", "http://u:hunter2@p:99999", "http://u:hunter2@p q", "http://[::1"]
)
def test_a_proxy_that_cannot_be_used_is_refused(value: str) -> None:
    """Rather than passed over; its password is not repeated."""
    with pytest.raises(WrongUsage, match="HTTPS_PROXY") as caught:
        find_proxy(SECURE, {"HTTPS_PROXY": value})

    assert "hunter2" not in str(caught.value)


async def test_tls_goes_through_a_tunnel(tmp_path: Path, typed: Typed) -> None:
    """The proxy gets its credentials, and of the request no more than the host."""
    certificate = make_certificate(tmp_path, HOST)
    with tls_server(certificate, RECEIPT.encode()) as server:
        async with forward_proxy(port_of(server), credentials="ann:p@ss word") as proxy:
            ended = await typed(
                *(*COMMAND, f"https://{HOST}:8443", "--ca-file", str(certificate)),
                HTTPS_PROXY=proxy.url.replace("//", "//ann:p%40ss%20word@"),
            )

    assert (0, "", True) == (ended.code, ended.stderr, '"burned"' in ended.stdout)
    assert [f"CONNECT {HOST}:8443 HTTP/1.1"] == [head.splitlines()[0] for head in proxy.heads]


async def test_the_certificate_is_checked_behind_a_proxy(tmp_path: Path, typed: Typed) -> None:
    """A proxy that breaks TLS open is found out."""
    certificate = make_certificate(tmp_path, "other.test")
    with tls_server(certificate, RECEIPT.encode()) as server:
        async with forward_proxy(port_of(server)) as proxy:
            ended = await typed(*(*COMMAND, f"https://{HOST}", "--ca-file", str(certificate)), HTTPS_PROXY=proxy.url)

    assert (3, "") == (ended.code, ended.stdout)
    assert "is not trusted" in ended.stderr


async def test_plain_http_goes_through_a_proxy(typed: Typed) -> None:
    """With its absolute URL, where plain http is allowed at all."""
    async with odd_server([reply(200, RECEIPT)]) as server, forward_proxy(port_of(server.url)) as proxy:
        ended = await typed(*COMMAND, f"http://{HOST}", "--allow-http", http_proxy=proxy.url)
        refused = await typed(*COMMAND, f"http://{HOST}", http_proxy=proxy.url)
        direct = await typed(*COMMAND, server.url, http_proxy=proxy.url, ALL_PROXY=proxy.url)

    assert [0, 2, 0] == [one.code for one in (ended, refused, direct)]
    assert [f"GET http://{HOST}/receipts/{'A' * 60}"] == [head.partition(" HTTP/")[0] for head in proxy.heads]


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(
    ("given", "status", "words"),
    [
        ("", 200, "requires a user name and a password"),
        ("ann:hunter2@", 200, "rejects the user name and password in"),
        (
            "ann:wanted@",
            403,
            {"https": f"refuses to connect to https://{HOST} (403)", "http": "like a Sealpost server"},
        ),
        ("ann:wanted@", 502, {"https": f"cannot reach https://{HOST} (502)", "http": "cannot answer now (502)"}),
    ],
)
async def test_the_refusal_of_a_proxy_is_told(
    typed: Typed, scheme: str, given: str, status: int, words: str | dict[str, str]
) -> None:
    """With the variable that names it, and without its credentials."""
    async with forward_proxy(1, credentials="ann:wanted", status=status) as proxy:
        variable = f"{scheme}_proxy"
        where = proxy.url.replace("//", f"//{given}")
        ended = await typed(*COMMAND, f"{scheme}://{HOST}", "--allow-http", **{variable: where})

    assert (3, "") == (ended.code, ended.stdout)
    assert (words if isinstance(words, str) else words[scheme]) in ended.stderr
    assert "hunter2" not in ended.stderr
    assert "wanted" not in ended.stderr
    if scheme == "https":
        assert f"the proxy {proxy.url} ({variable})" in ended.stderr


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_proxy_that_is_not_there_is_told(typed: Typed, closed_port: int, scheme: str) -> None:
    """With the variable that names it."""
    refused = await typed(
        *COMMAND, f"{scheme}://{HOST}", "--allow-http", ALL_PROXY=f"http://ann:hunter2@127.0.0.1:{closed_port}"
    )
    unknown = await typed(*COMMAND, f"{scheme}://{HOST}", "--allow-http", ALL_PROXY="http://ann:hunter2@x.invalid")

    assert [3, 3] == [refused.code, unknown.code]
    assert f"cannot reach the proxy http://127.0.0.1:{closed_port} (ALL_PROXY): Connection" in refused.stderr
    assert "cannot reach the proxy http://x.invalid:80 (ALL_PROXY): unknown host" in unknown.stderr
    assert "hunter2" not in refused.stderr + unknown.stderr
