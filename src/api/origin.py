"""Where a request came through: what nginx says of it is believed only on a unix socket, where only nginx is."""

import re
import secrets
from ipaddress import IPv4Address, ip_address, ip_network

from aiohttp import web

from ..settings import Settings

_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_FORWARDING = ("X-Real-IP", "X-Forwarded-For", "Forwarded", "Via")
"""What proxies add to a request; nginx adds the first one to all that comes through its public server."""
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")


class Origin:
    """Reads what is known of a request's way here."""

    def __init__(self, settings: Settings, *, behind_nginx: bool) -> None:
        self._public_url = settings.public_url.rstrip("/") if settings.public_url else None
        self._behind_nginx = behind_nginx

    def request_id(self, request: web.Request) -> str:
        """Return nginx's id for the request, or a fresh one: 32 hexadecimal digits."""
        given = request.headers.get("X-Request-ID", "") if self._behind_nginx else ""
        return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)

    def network(self, request: web.Request) -> str:
        """Return what limits count by: the client's IPv4 address, or the /64 network that holds its IPv6 address.

        One subscriber has a whole /64, so its single addresses are free to change.
        """
        given = request.headers.get("X-Real-IP") if self._behind_nginx else request.remote
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
        return self._behind_nginx or _is_loopback(request.remote or "")

    def link(self, request: web.Request, path: str) -> str:
        """Return the address of a path as the client can reach it; the bare path where the host makes no sense."""
        if self._public_url:
            return self._public_url + path
        scheme, host = request.scheme, request.headers.get("Host", "")
        if self._behind_nginx:
            scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else "http"
            host = request.headers.get("X-Forwarded-Host", host)
        return f"{scheme}://{host}{path}" if _HOST.fullmatch(host) else path


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
