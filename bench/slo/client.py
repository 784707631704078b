"""An HTTP client that counts each request to the stack."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import IO, Any
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector
from yarl import URL

from .tally import Tally

BROKEN, TOO_MANY, FAULTS = 0, 429, 500
CONNECTIONS = 80
"""Under the limit of 100 concurrent requests for an address."""
PATIENCE = 30.0

Body = bytes | IO[bytes] | AsyncIterator[bytes]


@dataclass(frozen=True)
class TimedResponse:
    """The response to a request; times in seconds, ``sent_at`` monotonic. Status 0 means a broken connection."""

    status: int
    content_type: str = ""
    body: Any = field(default=None, repr=False)
    retry_after: str = ""
    sent_at: float = 0.0
    seconds: float = 0.0

    @property
    def is_fault(self) -> bool:
        """Tell whether the service was unavailable."""
        return self.status == BROKEN or self.status >= FAULTS

    @property
    def is_refusal(self) -> bool:
        """Tell whether this is an API problem (RFC 9457) of 400 to 499, other than a rate limit."""
        return (
            400 <= self.status < FAULTS  # noqa: PLR2004 (the status classes of RFC 9110)
            and self.status != TOO_MANY
            and self.content_type.partition(";")[0] == "application/problem+json"
            and isinstance(self.body, dict)
            and self.body.get("status") == self.status
            and all(isinstance(self.body.get(name), str) for name in ("type", "title", "detail", "code", "request_id"))
        )


class ApiClient:
    """Sends requests to one stack, and counts them in its tally."""

    def __init__(self, url: str, tally: Tally, session: ClientSession, fresh: ClientSession) -> None:
        self.url = url
        self.tally = tally
        self._session = session
        self._fresh = fresh

    async def ask(
        self,
        method: str,
        route: str,
        body: object = None,
        *,
        key: str = "",
        token: str = "",
        fresh: bool = False,
    ) -> TimedResponse:
        """Send a request with an optional JSON body; ``key`` replaces ``{key}`` in the URL, but not in the tally.

        ``fresh`` uses a new connection.
        """
        data = None if body is None else json.dumps(body, ensure_ascii=False).encode()
        return await self.send(method, route, data, key=key, token=token, fresh=fresh)

    async def send(
        self,
        method: str,
        route: str,
        data: Body | None,
        *,
        key: str = "",
        token: str = "",
        headers: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> TimedResponse:
        """Send a request with a body of bytes."""
        authorization = {"Authorization": f"Bearer {token}"} if token else {}
        session = self._fresh if fresh else self._session
        sent_at = time.monotonic()
        try:
            async with session.request(
                method,
                URL(self.url + route.replace("{key}", key), encoded=True),
                data=data,
                headers={"Content-Type": "application/json", **authorization, **(headers or {})},
                allow_redirects=False,
            ) as received:
                text = await received.read()
                response = TimedResponse(
                    received.status,
                    received.headers.get("Content-Type", ""),
                    _parsed(text),
                    received.headers.get("Retry-After", ""),
                    sent_at,
                    time.monotonic() - sent_at,
                )
        except (ClientError, TimeoutError, OSError):
            response = TimedResponse(BROKEN, sent_at=sent_at, seconds=time.monotonic() - sent_at)
        return self._counted(f"{method} {route}", response)

    async def send_raw(self, request: bytes) -> TimedResponse:
        """Send arbitrary bytes on a new connection, and read until the server closes it."""
        address = urlsplit(self.url)
        secure = ssl.create_default_context() if address.scheme == "https" else None
        sent_at = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                port = address.port or (443 if secure else 80)
                reader, writer = await asyncio.open_connection(address.hostname, port, ssl=secure)
                try:
                    writer.write(request)
                    text = await reader.read()
                finally:
                    writer.close()
            response = _parsed_raw(text, sent_at)
        except (OSError, ValueError):
            response = TimedResponse(BROKEN, sent_at=sent_at, seconds=time.monotonic() - sent_at)
        return self._counted("malformed HTTP", response)

    def _counted(self, name: str, response: TimedResponse) -> TimedResponse:
        self.tally.requests += 1
        if response.is_fault:
            self.tally.unavailable[f"{name}: {response.status or 'connection broken'}"] += 1
        return response


@asynccontextmanager
async def connected(url: str, tally: Tally) -> AsyncIterator[ApiClient]:
    """Open a client and close it after the block. TLS trusts the system's CAs, or those of SSL_CERT_FILE."""
    timeout = ClientTimeout(total=PATIENCE)
    async with (
        ClientSession(connector=TCPConnector(limit=CONNECTIONS), timeout=timeout) as session,
        ClientSession(connector=TCPConnector(force_close=True), timeout=timeout) as fresh,
    ):
        yield ApiClient(url, tally, session, fresh)


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None


def _parsed_raw(text: bytes, sent_at: float) -> TimedResponse:
    """Raises `ValueError` if this is not an HTTP response."""
    head, _, body = text.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return TimedResponse(
        int(first.split(" ")[1] if " " in first else first),
        headers.get("content-type", ""),
        _parsed(body),
        headers.get("retry-after", ""),
        sent_at,
        time.monotonic() - sent_at,
    )
