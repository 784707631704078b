"""HTTP requests to the provider, within limits of time, size and number. Redirects are not followed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
import structlog

from .problems import ProviderFaulty, ProviderUnavailable

SECONDS = 5.0
"""Time limit of a request."""
MOST_BYTES = 1024 * 1024
"""Size limit of an answer."""
MOST_CONNECTIONS = 20
"""Requests of a worker to the provider at the same time; more wait, within their time limit."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, repr=False)
class Reply:
    """The status and the JSON object of an answer; the object is empty if the body is none."""

    status: int
    fields: Mapping[str, Any]

    @property
    def is_success(self) -> bool:
        """Tell whether the request succeeded."""
        return self.status == HTTPStatus.OK


class ProviderClient:
    """Sends requests to the provider; ``step`` names a request in the log."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None

    async def send(
        self, step: str, method: str, url: str, *, form: Mapping[str, str] | None = None, authorization: str = ""
    ) -> Reply:
        """Return the answer to a request. Raises `ProviderUnavailable` and `ProviderFaulty`."""
        # Uncompressed, so that the size limit applies to what is kept in memory.
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        if authorization:
            headers["Authorization"] = authorization
        try:
            async with self._opened().request(
                method, url, data=form, headers=headers, allow_redirects=False
            ) as response:
                body = await _read(response)
                status = response.status
        except TimeoutError:
            raise unavailable(step, "timeout") from None
        except (aiohttp.ClientConnectionError, OSError) as error:
            is_tls = isinstance(error, aiohttp.ClientSSLError)
            raise unavailable(step, "certificate not accepted" if is_tls else "connection failed") from None
        except (aiohttp.ClientError, ValueError):
            raise faulty(step, "malformed answer") from None
        if status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise unavailable(step, f"status {status}")
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            raise faulty(step, "redirect")
        if body is None:
            raise faulty(step, "answer too large")
        return Reply(status, _object(body))

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MOST_CONNECTIONS),
                timeout=aiohttp.ClientTimeout(total=self._seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                # The proxy of the environment (HTTPS_PROXY, NO_PROXY), if the operator has set one.
                trust_env=True,
            )
        return self._session


def unavailable(step: str, reason: str) -> ProviderUnavailable:
    """Log why the provider could not be asked, and return the error."""
    log.warning("identity provider not available", step=step, reason=reason)
    return ProviderUnavailable(retry_after=5)


def faulty(step: str, reason: str) -> ProviderFaulty:
    """Log why an answer of the provider is unusable, and return the error."""
    log.error("answer of the identity provider refused", step=step, reason=reason)
    return ProviderFaulty()


async def _read(response: aiohttp.ClientResponse) -> bytes | None:
    """Return the body; None if it is larger than `MOST_BYTES`."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            response.close()
            return None
    return bytes(body)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}
