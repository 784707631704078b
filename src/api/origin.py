"""The origin of a request: through nginx, through a trusted proxy, or directly from the client."""

import re
import secrets
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple

from aiohttp import hdrs, web
from multidict import istr

from ..errors import CrossSite, Misdirected
from ..settings import Settings

# Names of headers as istr: a plain text is folded to lower case for each request and response.
REQUEST_ID: str = istr("X-Request-ID")
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_FORWARDING = ("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "Via")
"""Headers added by proxies."""
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
_PREFIX = re.compile(r"(/[A-Za-z0-9._~!&'()*+,;=:@%-]+)+")
_ORIGIN = re.compile(r"https?://(\S+)")
_DEFAULT_PORT = re.compile(r":(80|443)\Z")
_FOR_PROBES = frozenset(("/healthz", "/readyz", "/metrics"))
"""Paths without host check: health checks and Prometheus use addresses or container names."""
_SIMPLE_TYPES = frozenset(("", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"))
"""Content types that a page may send cross-site without a preflight (CORS-safelisted)."""
_MOST_HOPS = 32
_KNOWN_CLIENTS = 4096
"""Addresses that are not parsed again while their clients send requests."""
_FORWARDED_HOST, _FORWARDED_PROTO, _FORWARDED_PREFIX, _CLIENT, _UNTRUSTED = map(
    istr, ("X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix", "X-Real-IP", "X-Untrusted-Proxy")
)

Address = IPv4Address | IPv6Address


class _Way(NamedTuple):
    """How a request reached this process; only nginx and trusted proxies are believed about it."""

    through_nginx: bool
    client: Address | None
    scheme: str
    host: str
    prefix: str
    untrusted_proxy: bool


_WAY = web.RequestKey("WAY", _Way)


class Origin:
    """Determines the origin of requests, and rejects requests for another host or from another site."""

    def __init__(self, settings: Settings) -> None:
        self._public_url = settings.public_url.rstrip("/") if settings.public_url else None
        self._public_authority = _authority(self._public_url) if self._public_url else None
        self._trusted = settings.trusted_networks

    def request_id(self, request: web.Request) -> str:
        """Return nginx's id for the request, or a new one: 32 hexadecimal digits."""
        given = request.headers.get(REQUEST_ID, "") if _came_through_nginx(request) else ""
        return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

    def network(self, request: web.Request) -> str:
        """Return the network that limits apply to: the client's IPv4 address, or the /64 network of its IPv6 address.

        A subscriber has a whole /64 and can change addresses freely within it.
        """
        return _network(self._way(request).client)

    def is_local(self, request: web.Request) -> bool:
        """Tell whether the request came from this host, or through nginx's metrics server."""
        if "X-Real-IP" in request.headers or _is_forwarded(request):
            return False
        way = self._way(request)
        return way.through_nginx or (way.client is not None and way.client.is_loopback)

    def link(self, request: web.Request, path: str) -> str:
        """Return the public URL of a path; only the path if the Host header is invalid."""
        if self._public_url:
            return self._public_url + path
        way = self._way(request)
        return f"{way.scheme}://{way.host}{way.prefix}{path}" if _HOST.fullmatch(way.host) else way.prefix + path

    def came_through_untrusted_proxy(self, request: web.Request) -> bool:
        """Tell whether the request has proxy headers but came from an untrusted address."""
        return self._way(request).untrusted_proxy

    def check(self, request: web.Request) -> None:
        """Reject a request for another host or from another site. Raises `Misdirected` and `CrossSite`."""
        if self._public_url and request.path not in _FOR_PROBES and not self._is_ours(self._way(request).host):
            raise Misdirected
        # Cross-site, other content types and other methods that change data require a CORS preflight, which fails.
        if request.method == hdrs.METH_POST and _simple_type(request) in _SIMPLE_TYPES and self._is_foreign(request):
            raise CrossSite

    def is_same_origin(self, request: web.Request) -> bool:
        """Tell whether a browser says that the page of this service itself sent the request."""
        if site := request.headers.get("Sec-Fetch-Site"):
            return site == "same-origin"
        return hdrs.ORIGIN in request.headers and not self._is_foreign(request)

    def _is_ours(self, host: str) -> bool:
        # Any site can resolve its own name to this address (DNS rebinding), so the name decides.
        name = _name(host)
        if not name or name == "localhost" or name == _name(self._public_authority or ""):
            return True
        address = _address(name)
        return address is not None and address.is_loopback

    def _is_foreign(self, request: web.Request) -> bool:
        if site := request.headers.get("Sec-Fetch-Site"):
            return site not in {"same-origin", "none"}
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return False
        # Without the scheme, which is unknown behind an untrusted proxy.
        authority = _authority(origin)
        return authority is None or authority not in {self._public_authority, _canonical(self._way(request).host)}

    def _way(self, request: web.Request) -> _Way:
        if (way := request.get(_WAY)) is None:
            request[_WAY] = way = self._find_way(request)
        return way

    def _find_way(self, request: web.Request) -> _Way:
        headers = request.headers
        host = headers.get(hdrs.HOST, "")
        if _came_through_nginx(request):
            # It forwards the headers of trusted proxies.
            client = _address(headers.get(_CLIENT, ""))
            return _believing(request, True, client, "http", untrusted=_UNTRUSTED in headers)
        peer = _address(request.remote or "")
        if self._is_trusted(peer):
            return _believing(request, False, self._client_behind(request, peer), request.scheme, untrusted=False)
        return _Way(False, peer, request.scheme, host, "", _is_forwarded(request))

    def _client_behind(self, request: web.Request, peer: Address | None) -> Address | None:
        """Return the last address of ``X-Forwarded-For`` that is no trusted proxy; clients can forge earlier ones."""
        hops = ",".join(request.headers.getall("X-Forwarded-For", ())).rsplit(",", _MOST_HOPS)[-_MOST_HOPS:]
        for hop in reversed(hops):
            address = _address(_name(hop.strip()))
            if address is None:
                break
            peer = address
            if not self._is_trusted(peer):
                break
        return peer

    def _is_trusted(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self._trusted)


def _believing(
    request: web.Request, through_nginx: bool, client: Address | None, scheme: str, *, untrusted: bool
) -> _Way:
    """Return how a request came, according to its forwarding headers."""
    told = _first(request, _FORWARDED_PROTO).lower()
    host = _first(request, _FORWARDED_HOST) or request.headers.get(hdrs.HOST, "")
    prefix = _first(request, _FORWARDED_PREFIX).rstrip("/")
    return _Way(
        through_nginx,
        client,
        told if told in {"http", "https"} else scheme,
        host,
        prefix if _PREFIX.fullmatch(prefix) else "",
        untrusted,
    )


def _first(request: web.Request, name: str) -> str:
    """Return the first value of a header, to which each proxy of a chain may have added a value."""
    return request.headers.get(name, "").partition(",")[0].strip()


def _came_through_nginx(request: web.Request) -> bool:
    # Only nginx connects to the unix socket. There a client has no address, not even an unknown one (None).
    return request.remote == ""


def _is_forwarded(request: web.Request) -> bool:
    return any(name in request.headers for name in _FORWARDING)


def _simple_type(request: web.Request) -> str:
    return request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


@lru_cache(_KNOWN_CLIENTS)
def _network(address: Address | None) -> str:
    if address is None:
        return "unknown"
    return str(address if isinstance(address, IPv4Address) else ip_network((address, 64), strict=False))


@lru_cache(_KNOWN_CLIENTS)
def _address(text: str) -> Address | None:
    """Parse an address; an IPv4-mapped IPv6 address becomes IPv4."""
    try:
        address = ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _name(host: str) -> str:
    """Return a host in lower case without its port; empty if there is none."""
    if host.startswith("["):
        return host.partition("]")[0][1:].lower()
    return (host.partition(":")[0] if host.count(":") == 1 else host).lower()


def _canonical(host: str) -> str:
    """Return a host in lower case without a default port."""
    return _DEFAULT_PORT.sub("", host.lower())


def _authority(url: str) -> str | None:
    """Return the host and port of an ``Origin`` or another URL, or None."""
    origin = _ORIGIN.match(url)
    return _canonical(origin[1].partition("/")[0]) if origin else None
