"""The origin of a request: trusted proxies, accepted hosts, and cross-site pages."""

from collections.abc import Awaitable, Callable
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from src.api.origin import Origin
from src.settings import Settings

from .conftest import Api

Serve = Callable[..., Awaitable[Api]]
MakeSettings = Callable[..., Settings]
PROXY, OUTER_PROXY, CLIENT = "10.0.0.5", "192.0.2.7", "198.51.100.1"
TRUSTED = "10.0.0.0/8, 192.0.2.7, 2001:db8:f::/48"


def request_from(remote: str, *headers: tuple[str, str], **options: Any) -> web.Request:
    """Return a request over TCP."""
    named: Any = CIMultiDict((name.replace("_", "-"), value) for name, value in (("Host", "inner:8080"), *headers))
    return make_mocked_request("GET", "/", headers=named, **options).clone(remote=remote)


@pytest.mark.parametrize(
    ("remote", "forwarded", "network"),
    [
        (PROXY, [CLIENT], CLIENT),
        (PROXY, [f"203.0.113.9, {CLIENT}, {OUTER_PROXY}"], CLIENT),
        (PROXY, ["203.0.113.9", f"{CLIENT}:4711", f"[2001:db8:f::1]:80, {OUTER_PROXY}"], CLIENT),
        (PROXY, [f"::ffff:{CLIENT}"], CLIENT),
        (f"::ffff:{PROXY}", [CLIENT], CLIENT),
        (PROXY, ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        (PROXY, [OUTER_PROXY, "10.9.9.9"], OUTER_PROXY),
        (PROXY, [f"{CLIENT}, unknown"], PROXY),
        (PROXY, [f"{CLIENT}, unknown, {OUTER_PROXY}"], OUTER_PROXY),
        (PROXY, [], PROXY),
        (PROXY, [", " * 4000], PROXY),
        (CLIENT, ["203.0.113.9"], CLIENT),
    ],
)
def test_a_client_is_the_last_untrusted_address(
    make_settings: MakeSettings, remote: str, forwarded: list[str], network: str
) -> None:
    """In X-Forwarded-For, the last address that is no trusted proxy counts: clients can forge earlier ones."""
    request = request_from(remote, *(("X-Forwarded-For", value) for value in forwarded))

    assert network == Origin(make_settings(trusted_proxies=TRUSTED)).network(request)


@pytest.mark.parametrize(
    ("headers", "link"),
    [
        ({}, "http://inner:8080/x"),
        ({"X-Forwarded-Proto": "https"}, "https://inner:8080/x"),
        ({"X-Forwarded-Proto": "HTTPS, http", "X-Forwarded-Host": "drop.example, inner"}, "https://drop.example/x"),
        ({"X-Forwarded-Prefix": "/box/"}, "http://inner:8080/box/x"),
        ({"X-Forwarded-Prefix": "/box/of/words, /other"}, "http://inner:8080/box/of/words/x"),
        *(({"X-Forwarded-Prefix": bad}, "http://inner:8080/x") for bad in ("box", "//evil.example", "/a b", "/<b>")),
        ({"X-Forwarded-Proto": "gopher"}, "http://inner:8080/x"),
        ({"X-Forwarded-Host": "evil host", "X-Forwarded-Prefix": "/box"}, "/box/x"),
    ],
)
def test_a_link_has_the_scheme_host_and_prefix_of_a_trusted_proxy(
    make_settings: MakeSettings, headers: dict[str, str], link: str
) -> None:
    """Valid values from a trusted proxy are used, and those of others never."""
    trusting, doubting = Origin(make_settings(trusted_proxies=TRUSTED)), Origin(make_settings())

    assert link == trusting.link(request_from(PROXY, *headers.items()), "/x")
    assert "http://inner:8080/x" == trusting.link(request_from(CLIENT, *headers.items()), "/x")
    assert "http://inner:8080/x" == doubting.link(request_from(PROXY, *headers.items()), "/x")


async def test_an_untrusted_proxy_is_reported(serve: Serve) -> None:
    """`/readyz` has a header for the doctor, unless the proxy is trusted or there is none."""
    doubting, trusting = await serve(), await serve(trusted_proxies="127.0.0.1")
    forwarded = {"X-Forwarded-For": CLIENT}

    assert ["untrusted", None, None] == [
        (await api.send("GET", "/readyz", None, **headers)).headers.get("Sealpost-Proxy")
        for api, headers in ((doubting, forwarded), (trusting, forwarded), (doubting, {}))
    ]


@pytest.fixture
async def named(serve: Serve) -> Api:
    """A server with a public URL."""
    return await serve(public_url="https://Drop.example:8443/box")


async def test_only_the_public_host_and_loopback_are_accepted(named: Api, api: Api) -> None:
    """Other hosts get 421 on every route, except for probes; without a public URL, none does."""
    ours = ["drop.example", "DROP.EXAMPLE:8443", "drop.example:1", "localhost:5", "127.8.8.8", "[::1]:8080", ""]
    others = ["evil.example", "drop.example.evil.example", "192.0.2.1", "[2001:db8::1]:80", "evil host", "::"]

    assert [200] * len(ours) == [(await named.send("GET", "/hello", Host=host)).status for host in ours]
    assert [200] * len(others) == [(await api.send("GET", "/hello", Host=host)).status for host in others]
    for host in others:
        answers = [await named.send("GET", path, Host=host) for path in ("/hello", "/nowhere")]
        assert [(421, "misdirected")] * 2 == [(answer.status, answer.json()["code"]) for answer in answers]
    assert [200, 200, 200] == [
        (await named.send("GET", path, Host="nginx:9145")).status for path in ("/healthz", "/readyz", "/metrics")
    ]


async def test_a_trusted_proxy_names_the_host(serve: Serve) -> None:
    """The host that it was asked for counts, not the one in its own request."""
    api = await serve(public_url="https://drop.example", trusted_proxies="127.0.0.1")
    headers = {"Host": "backend:8080", "X-Forwarded-Host": "drop.example"}

    assert 200 == (await api.send("GET", "/hello", None, **headers)).status
    assert 421 == (await api.send("GET", "/hello", Host="backend:8080")).status


FORM, TEXT, JSON = "application/x-www-form-urlencoded", "text/plain;charset=UTF-8", "application/json"
HERE = "http://drop.example"


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({"Content-Type": FORM}, False),
        ({"Content-Type": FORM, "Origin": HERE}, False),
        ({"Content-Type": FORM, "Origin": "https://DROP.example:443"}, False),
        ({"Content-Type": JSON, "Origin": "https://evil.example"}, False),
        ({"Content-Type": TEXT, "Sec-Fetch-Site": "same-origin", "Origin": "null"}, False),
        ({"Content-Type": TEXT, "Sec-Fetch-Site": "none"}, False),
        ({"Content-Type": FORM, "Origin": "https://evil.example"}, True),
        ({"Content-Type": FORM, "Origin": f"{HERE}:8080"}, True),
        ({"Content-Type": TEXT, "Origin": "null"}, True),
        ({"Content-Type": "Multipart/Form-Data; boundary=x", "Sec-Fetch-Site": "cross-site"}, True),
        ({"Content-Type": TEXT, "Sec-Fetch-Site": "same-site", "Origin": HERE}, True),
        ({"Origin": "https://evil.example"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, True),
    ],
)
async def test_cross_site_posts_without_preflight_are_rejected(
    api: Api, headers: dict[str, str], *, refused: bool
) -> None:
    """A POST that browsers send cross-site without a preflight gets 403, and nothing is stored."""
    async with api.client.post(
        "/generate",
        data=b'{"secret": "x"}',
        headers={"Host": "drop.example", **headers},
        skip_auto_headers=["Content-Type"],
    ) as answer:
        told = await answer.json(content_type=None)

    assert (403, "cross_site") == (answer.status, told["code"]) if refused else 201 == answer.status
    assert (0 if refused else 1) == await api.items.count_documents({})


async def test_the_page_of_the_public_address_is_same_site(named: Api) -> None:
    """Also if a proxy forwards the request under another host."""
    headers = {"Host": "localhost:8080", "Content-Type": FORM, "Origin": "https://drop.example:8443"}

    assert 201 == (await named.send("POST", "/", b"message=x", **headers)).status


def test_a_client_without_an_address_is_not_believed(make_settings: MakeSettings) -> None:
    """A TCP connection that was lost at once has no address; only nginx's unix socket has an empty one."""
    headers = {"X-Real-IP": CLIENT}
    lost, through_nginx = (
        make_mocked_request("GET", "/", headers=headers, transport=Mock(**{"get_extra_info.return_value": peer}))
        for peer in (None, "")
    )

    assert ["unknown", CLIENT] == [Origin(make_settings()).network(request) for request in (lost, through_nginx)]


@pytest.mark.parametrize("value", ["10.0.0.0/33", "proxy.example", "10.0.0.1-10.0.0.9", "10.0.0.1 10.0.0.2"])
def test_invalid_networks_are_rejected(make_settings: MakeSettings, value: str) -> None:
    """The settings report the invalid value before the start."""
    with pytest.raises(ValueError, match="must be networks such as"):
        make_settings(trusted_proxies=value)
