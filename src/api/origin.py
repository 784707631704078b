"""Where a request came from. Forwarding headers are believed on a unix socket only, where only nginx connects."""

import re
import secrets
import socket
from ipaddress import IPv4Address, ip_address, ip_network

from aiohttp import web

from ..settings import Settings

_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_FORWARDING = ("X-Real-IP", "X-Forwarded-For", "Forwarded", "Via")
"""What proxies add to a request; nginx adds the first one to all that comes through its public server."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")

_THROUGH_NGINX = web.RequestKey("THROUGH_NGINX", bool)


class Origin:
    """Reads what is known of a request's way here."""

    def __init__(self, settings: Settings) -> None:
        self._public_url = settings.public_url.rstrip("/") if settings.public_url else None

    def request_id(self, request: web.Request) -> str:
        """Return nginx's id for the request, or a fresh one: 32 hexadecimal digits."""
        given = request.headers.get("X-Request-ID", "") if came_through_nginx(request) else ""
        return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

    def network(self, request: web.Request) -> str:
        """Return what limits count by: the client's IPv4 address, or the /64 network that holds its IPv6 address.

        One subscriber has a whole /64, so its single addresses are free to change.
        """
        given = request.headers.get("X-Real-IP") if came_through_nginx(request) else request.remote
        try:
            address = ip_address((given or "").partition("%")[0])
        except ValueError:
            return "unknown"
        if isinstance(address, IPv4Address):
            return str(address)
        return str(address.ipv4_mapped or ip_network((address, 64), strict=False))

    def is_local(self, request: web.Request) -> bool:
        """Tell whether somebody on this host asks, or through nginx's own server for metrics; never for others."""
        if any(name in request.headers for name in _FORWARDING):
            return False
        return came_through_nginx(request) or _is_loopback(request.remote or "")

    def link(self, request: web.Request, path: str) -> str:
        """Return the address of a path as the client can reach it; the bare path where the host makes no sense."""
        if self._public_url:
            return self._public_url + path
        scheme, host = request.scheme, request.headers.get("Host", "")
        if came_through_nginx(request):
            scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else "http"
            host = request.headers.get("X-Forwarded-Host", host)
        return f"{scheme}://{host}{path}" if _HOST.fullmatch(host) else path


def came_through_nginx(request: web.Request) -> bool:
    """Tell whether the request came over a unix socket; the same once its client has gone."""
    if (known := request.get(_THROUGH_NGINX)) is None:
        # The edge asks first, while the connection is there.
        connection = request.transport.get_extra_info("socket") if request.transport else None
        request[_THROUGH_NGINX] = known = getattr(connection, "family", None) == socket.AF_UNIX
    return known


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
