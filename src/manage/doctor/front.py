"""Checks of the public address: nginx, or a proxy in front of it."""

import ipaddress
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from io import BytesIO

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from multidict import CIMultiDictProxy
from yarl import URL

from ...api.edge import CONTENT_POLICY, PROXY, PROXY_UNTRUSTED, SECURITY_HEADERS
from ...core.clock import utc_now
from .certificates import examine_certificate
from .examination import Finding, Outcome, describe_os_error, examine, failed, not_checked, ok, warning

LONGEST_BODY = 1024 * 1024
_READ_AT_MOST = 65_536
_HTTP_PORT, _HTTPS_PORT = 80, 443
_REDIRECTS = {301, 302, 303, 307, 308}
_STRICT_TRANSPORT = "Strict-Transport-Security"
_PASSED_ON = {name: value for name, value in SECURITY_HEADERS.items() if name != "Server"}
_NOT_READY = {
    502: "nginx cannot reach any worker",
    503: "the workers are waiting for MongoDB",
    504: "the workers do not answer in time",
}


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def redirect_target(self) -> URL:
        """The target of a redirect; empty for any other response."""
        with suppress(ValueError):
            return URL(self.headers["Location"]) if self.status in _REDIRECTS else URL()
        return URL()


async def examine_front(address: URL | None, now: Callable[[], datetime] = utc_now) -> AsyncIterator[Finding]:
    """Check the server at an address, and its certificate."""
    if address is None:
        for name in ("front", *_CHECKS, "certificate"):
            yield Finding(name, not_checked("no public address is known: use --url"))
        return
    # Accept any certificate: it has its own check, and no secret is sent.
    async with ClientSession(connector=TCPConnector(ssl=False), timeout=ClientTimeout(total=None)) as client:
        front = _Front(client, address)
        yield await examine("front", front.run_check(front.check_readiness()))
        for name, check in _CHECKS.items():
            if front.ready is None:
                yield Finding(name, not_checked(f"nothing answers at {front.address}"))
            else:
                yield await examine(name, front.run_check(check(front)))
    yield await examine("certificate", examine_certificate(front.address, now))


class _Front:
    """The checks of one address. A redirect to HTTPS changes the address."""

    def __init__(self, client: ClientSession, address: URL) -> None:
        self._client = client
        self._address = address
        self._redirect_status = 0
        self.ready: _Answer | None = None
        """The response of ``/readyz``, if there was one."""

    @property
    def address(self) -> URL:
        """The address, without any credentials."""
        return self._address.with_user(None)

    async def run_check(self, check: Awaitable[Outcome]) -> Outcome:
        """Run a check, and translate connection errors to an outcome."""
        try:
            return await check
        except ClientError as error:
            return failed(
                f"{self.address} does not answer: {_reason(error)}",
                "Check that nginx is running, that this host can reach it, and that the address is correct.",
            )

    async def check_readiness(self) -> Outcome:
        """Check whether a worker reports that it is ready."""
        answer = await self._ask("GET", self._address / "readyz")
        to = answer.redirect_target
        if to.scheme == "https" and to.host == self._address.host:
            self._redirect_status = answer.status
            self._address = to.with_path(to.path.removesuffix("/readyz") or "/")
            answer = await self._ask("GET", self._address / "readyz")
        self.ready = answer
        if answer.status in _NOT_READY:
            reason = _NOT_READY[502] if _says(answer, "code", "starting") else _NOT_READY[answer.status]
            return failed(
                f"{self.address} answers {answer.status}: {reason}",
                "See the checks of MongoDB and of the workers.",
            )
        if answer.status != HTTPStatus.OK or not _says_ready(answer):
            return failed(
                f"{self.address} answers {answer.status}, but not as Sealpost",
                "Check that the address is correct, and that a proxy in front of nginx forwards all paths.",
            )
        return ok(f"{self.address} is ready")

    async def check_headers(self) -> Outcome:
        """Check whether responses keep their security headers on the way."""
        headers = self.ready.headers if self.ready else {}
        wrong = [name for name, value in _PASSED_ON.items() if value not in headers.get(name, "")]
        wrong += [name for name in (CONTENT_POLICY, "X-Request-ID") if name not in headers]
        if wrong:
            return failed(
                f"missing or changed: {', '.join(sorted(wrong))}",
                "A proxy removes or changes them: check its configuration.",
            )
        if self._address.scheme == "https" and _STRICT_TRANSPORT not in headers:
            return warning(
                f"{_STRICT_TRANSPORT} is missing",
                "Send it from the proxy that terminates TLS, so that browsers never fall back to plain HTTP.",
            )
        return ok("all present")

    async def check_proxy(self) -> Outcome:
        """Check whether a proxy in front of nginx is trusted."""
        if self.ready and self.ready.headers.get(PROXY) == PROXY_UNTRUSTED:
            return warning(
                "an untrusted proxy forwards requests: all its clients share the limits of one address",
                "Set SEALPOST_TRUSTED_PROXIES to the address of the proxy: docs/operations.md, Behind another proxy.",
            )
        return ok("no untrusted proxy was detected")

    async def check_metrics(self) -> Outcome:
        """Check that metrics are not public."""
        answer = await self._ask("GET", self._address / "metrics")
        if answer.status not in range(200, 300):
            return ok(f"/metrics is not served: {answer.status}")
        if _is_loopback(self._address.host):
            return not_checked("/metrics is served to this host, which is allowed: use --url with the public address")
        return failed("/metrics is public", "Answer it with 404 in the proxy, as nginx does in the stack.")

    async def check_body_limit(self) -> Outcome:
        """Check that a body over the limit is rejected."""
        answer = await self._ask("POST", self._address / "echo", BytesIO(bytes(LONGEST_BODY + 1)))
        if answer.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return ok("a body over 1 MiB is rejected: 413")
        return failed(
            f"a body over 1 MiB is answered {answer.status}",
            "Reject it in nginx with 413 (client_max_body_size 1m), before a worker has to read it.",
        )

    async def check_https(self) -> Outcome:
        """Check that all traffic uses HTTPS."""
        if self._redirect_status:
            return ok(f"plain HTTP redirects to {self.address}: {self._redirect_status}")
        return await (self._check_plain_http() if self._address.scheme == "https" else self._check_without_tls())

    async def _check_without_tls(self) -> Outcome:
        if _is_loopback(self._address.host):
            return not_checked(f"TLS is off, and {self.address} is a loopback address")
        return warning(
            f"TLS is off: traffic to {self.address} can be intercepted",
            "Use HTTPS in production: docs/operations.md, TLS.",
        )

    async def _check_plain_http(self) -> Outcome:
        if self._address.port != _HTTPS_PORT:
            return not_checked("the port for plain HTTP is not known: use --url with that address")
        try:
            answer = await self._ask("GET", self._address.with_scheme("http").with_port(_HTTP_PORT) / "readyz")
        except ClientError:
            return ok("nothing answers plain HTTP")
        if answer.redirect_target.scheme == "https":
            return ok(f"plain HTTP redirects to HTTPS: {answer.status}")
        return failed(
            f"plain HTTP is answered {answer.status}", "Redirect it to HTTPS with 308, and serve nothing else on it."
        )

    async def _ask(self, method: str, address: URL, body: BytesIO | None = None) -> _Answer:
        async with self._client.request(method, address, data=body, allow_redirects=False) as answer:
            return _Answer(answer.status, answer.headers, await answer.content.read(_READ_AT_MOST))


_CHECKS: dict[str, Callable[[_Front], Awaitable[Outcome]]] = {
    "security headers": _Front.check_headers,
    "proxy": _Front.check_proxy,
    "metrics": _Front.check_metrics,
    "body limit": _Front.check_body_limit,
    "HTTPS": _Front.check_https,
}


def _says_ready(answer: _Answer) -> bool:
    try:
        return bool(json.loads(answer.body) == {"status": "ready"})
    except ValueError:
        return False


def _says(answer: _Answer, member: str, word: str) -> bool:
    try:
        told = json.loads(answer.body)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get(member) == word


def _is_loopback(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


def _reason(error: ClientError) -> str:
    return describe_os_error(error) if isinstance(error, OSError) else type(error).__name__
