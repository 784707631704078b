"""The proxy from the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, as in curl."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit

from .addresses import DEFAULT_PORTS, is_loopback
from .errors import WrongUsage


@dataclass(frozen=True)
class Proxy:
    """A proxy from the environment ``variable``. ``authorization`` is a header value; ``url`` has no credentials."""

    url: str
    variable: str
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"the proxy {self.url} ({self.variable})"


def find_proxy(url: str, environment: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for a server's URL, or None; always None for loopback. Raises `WrongUsage`."""
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    exempt = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    if is_loopback(host) or _is_exempt(host, parts.port or DEFAULT_PORTS[parts.scheme], exempt):
        return None
    for variable in _variables(parts.scheme, environment):
        if value := environment.get(variable, "").strip():
            return _parse_proxy(value, variable)
    return None


def _variables(scheme: str, environment: Mapping[str, str]) -> Iterator[str]:
    for name in (f"{scheme}_proxy", "all_proxy"):
        yield name
        # In a CGI program, the request header `Proxy` becomes HTTP_PROXY.
        if name != "http_proxy" or "REQUEST_METHOD" not in environment:
            yield name.upper()


def _parse_proxy(value: str, variable: str) -> Proxy:
    """Parse a proxy. The `WrongUsage` that it raises omits the value, which may contain a password."""
    if "://" not in value:
        value = f"http://{value}"
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise _unusable(variable) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise WrongUsage(f"{variable} names a {parts.scheme} proxy; only http and https proxies are supported")
    if not host or re.search(r"[\s\x00-\x1f\x7f]", value):
        raise _unusable(variable)
    authorization = None
    if parts.username is not None:
        credentials = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(credentials.encode(errors='surrogateescape')).decode()}"
    where = f"[{host}]" if ":" in host else host
    return Proxy(f"{parts.scheme}://{where}:{port or DEFAULT_PORTS[parts.scheme]}", variable, authorization)


def _unusable(variable: str) -> WrongUsage:
    return WrongUsage(f"{variable} must look like http://proxy.example.org:3128")


def _is_exempt(host: str, port: int, exempt: str) -> bool:
    """Return whether `NO_PROXY` lists a host: by name or parent domain, address, network, or ``*``."""
    return any(_matches(host, port, entry) for entry in re.split(r"[,\s]+", exempt.lower()) if entry)


def _matches(host: str, port: int, entry: str) -> bool:
    with_port = re.fullmatch(r"\[?([^\[\]]*?)\]?:([0-9]+)", entry) if entry.count(":") == 1 or "]:" in entry else None
    if with_port:
        entry = with_port[1]
        if int(with_port[2]) != port:
            return False
    if entry == "*":
        return True
    try:
        return ip_address(host) in ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name = entry.removeprefix("*").removeprefix(".")
        return name != "" and (host == name or host.endswith(f".{name}"))
