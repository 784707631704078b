"""HTTP to one server: time-outs, what may be sent again, and every failure in words.

`Transport.send` returns whatever a Sealpost server answered, refusals included, as an `Response`; it raises only where
there is no such answer. It sends a token only where it is given one, and follows no redirect.
"""

import asyncio
import json
import os
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from .. import __version__
from .addresses import is_plain
from .errors import UNSURE, NotSealpost, OutcomeUnknown, Unreachable, WrongUsage
from .policy import Resend
from .proxies import Proxy
from .responses import JsonObject, Response, parse_body

LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes; a page of a hundred posts with each character escaped has about 12 MiB."""
CONNECT_SECONDS = 10.0
LONGEST_WAIT = 30
"""Seconds of `Retry-After` that are waited for."""
PAUSES = (0.3, 1.0)
"""Seconds between tries, where the server names none."""

NO_HOST = "there is no host of this name, or no network"
LONGEST_NUMBER = 9
REDIRECTIONS = range(300, 400)

# nginx has lost the worker, or did not wait for it.
_LOST = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})


class Transport:
    """Connections to one server; an asynchronous context manager.

    ``tls`` is None for plain http, ``proxy`` for a direct connection. ``timeout`` is in seconds, for one try from
    connecting to the last byte of the answer. ``notify`` is told before a request is sent again. With ``keep_alive``
    connections are used again, for programs that send many requests; a connection that the server closes meanwhile
    then loses a request now and then.
    """

    def __init__(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None,
        timeout: float,
        proxy: Proxy | None = None,
        allow_http: bool = False,
        keep_alive: bool = False,
        connections: int = 100,
        notify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.url, self.allow_http = url, allow_http
        self._tls, self._timeout, self._notify = tls, timeout, notify
        self._proxy = proxy
        self._keep_alive, self._connections = keep_alive, connections
        self._stack = AsyncExitStack()
        self._shared: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Raise `WrongUsage` where everything would cross a network in the clear."""
        if is_plain(self.url) and not self.allow_http:
            raise WrongUsage(
                f"{self.url} is plain http to another machine: what is sent there can be read on the way. Use https,"
                " or --allow-http where you trust the network"
            )
        if self._keep_alive:
            self._shared = await self._stack.enter_async_context(self._new_session())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def send(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
        resend: Resend = Resend.NEVER,
    ) -> Response:
        """Send a request and return the answer, whatever its status.

        Raises `Unreachable` where there is none and nothing was carried out, `OutcomeUnknown` where something may have
        been, and `NotSealpost`.
        """
        after_loss = False
        outcome: Response | Unreachable
        for pause in (*PAUSES, None):
            try:
                outcome = await self.send_once(method, path, body, query=query, token=token)
            except Unreachable as error:
                outcome = error
            wait = wait_to_resend(outcome, resend, pause)
            if wait is None:
                break
            after_loss = after_loss or _is_lost(outcome)
            self._notify(f"{_words(outcome)}. Trying again in {wait:g} s")
            await asyncio.sleep(wait)
        if _is_lost(outcome) and resend < Resend.ALWAYS:
            raise OutcomeUnknown(f"{_words(outcome)}{UNSURE}")
        if isinstance(outcome, Unreachable):
            raise outcome
        return replace(outcome, after_loss=after_loss)

    async def send_once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        token: str | None = None,
    ) -> Response:
        """Return the answer to one try, also that of a proxy that has lost the server; raises as `send`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        proxy_headers: dict[str, str] = {}
        if self._proxy and self._proxy.authorization:
            # It is for the proxy alone: in a tunnel, only the CONNECT has it.
            for_proxy = proxy_headers if self._tls else headers
            for_proxy["Proxy-Authorization"] = self._proxy.authorization
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = _encode(body)
        try:
            async with (
                nullcontext(self._shared) if self._shared else self._new_session() as session,
                session.request(
                    method,
                    self.url + path,
                    data=data,
                    params=query,
                    headers=headers,
                    allow_redirects=False,
                    proxy=self._proxy.url if self._proxy else None,
                    proxy_headers=proxy_headers or None,
                ) as response,
            ):
                return await self._read(response, path)
        except UnicodeError:
            raise WrongUsage("what was given is not UTF-8") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise explain_failure(error, url=self.url, timeout=self._timeout, proxy=self._proxy) from None

    def _new_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls or True, limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"sealpost/{__version__}", "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=self._timeout, connect=min(CONNECT_SECONDS, self._timeout)),
        )
        # It would send GET, PUT and DELETE again by itself, also a password that is changed already.
        session._retry_connection = False  # noqa: SLF001 (there is no other switch)
        return session

    async def _read(self, response: aiohttp.ClientResponse, path: str) -> Response:
        if self._proxy and response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
            raise explain_proxy_refusal(response.status, url=self.url, proxy=self._proxy)
        if response.status in REDIRECTIONS and "Location" in response.headers:
            raise _explain_redirect(self.url, path, response.headers["Location"])
        raw = bytearray()
        async for chunk in response.content.iter_any():
            raw += chunk
            if len(raw) > LARGEST_ANSWER:
                raise NotSealpost(f"the answer of {self.url} is too long to be one of Sealpost")
        body = parse_body(bytes(raw))
        seconds = response.headers.get("Retry-After", "")[:LONGEST_NUMBER]
        return Response(
            self.url,
            response.status,
            JsonObject() if body is None else body,
            is_json=body is not None,
            retry_after=int(seconds) if seconds.isdecimal() else None,
        )


def _explain_redirect(url: str, path: str, location: str) -> Unreachable:
    """Return what a redirect of a request for ``path`` means; the path may be a key, and is not repeated."""
    target = urlsplit(urljoin(url + path, location))
    if urlsplit(url).scheme == "https" and target.scheme != "https":
        return Unreachable(f"{url} redirects to an address without https, which is refused")
    prefix = target.path.removesuffix(path) if target.path.endswith(path) else ""
    host = target.netloc.rpartition("@")[2]
    return Unreachable(f"{url} sends on to {target.scheme}://{host}{prefix}; give that with --url")


def wait_to_resend(outcome: Response | Unreachable, resend: Resend, pause: float | None) -> float | None:
    """Return the seconds until a request is sent again; None where it must not be, or there is no sense in it.

    ``pause`` counts where the server names no time; None after the last try.
    """
    if pause is None:
        return None
    if isinstance(outcome, Unreachable):
        needed = Resend.ALWAYS if _is_lost(outcome) else Resend.LIMITED
        return pause if outcome.passing and resend >= needed else None
    if outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
        needed = Resend.LIMITED
    elif outcome.status == HTTPStatus.SERVICE_UNAVAILABLE:
        needed = Resend.UNAVAILABLE
    elif _is_lost(outcome):
        needed = Resend.ALWAYS
    else:
        return None
    wait = pause if outcome.retry_after is None else outcome.retry_after
    return wait if resend >= needed and wait <= LONGEST_WAIT else None


def _is_lost(outcome: Response | Unreachable) -> bool:
    """Tell whether the request may have been carried out without its answer coming through."""
    return isinstance(outcome, OutcomeUnknown) if isinstance(outcome, Unreachable) else outcome.status in _LOST


def _words(outcome: Response | Unreachable) -> str:
    error = outcome.error() if isinstance(outcome, Response) else outcome
    return str(error).rstrip(".")


def _encode(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise WrongUsage("the text is not UTF-8") from None


def explain_failure(error: Exception, *, url: str, timeout: float, proxy: Proxy | None = None) -> Unreachable:
    """Return what a failed request means; ``timeout`` is what it was given, in seconds."""
    found: Unreachable
    if proxy and (failure := _explain_proxy_failure(error, url=url, proxy=proxy)):
        return failure
    match error:
        case aiohttp.ClientConnectorCertificateError():
            found = Unreachable(f"{url} is not trusted: {_explain_certificate(error.certificate_error)}")
        case aiohttp.ClientSSLError():
            found = Unreachable(f"{url} does not speak TLS as it should; is it plain http there?")
        case aiohttp.ClientConnectorDNSError():
            found = Unreachable(f"{url} cannot be reached: {NO_HOST}")
        case aiohttp.ClientConnectorError():
            found = Unreachable(f"{url} cannot be reached: {_explain_connection(error)}", passing=True)
        case aiohttp.ConnectionTimeoutError():
            found = Unreachable(f"{url} cannot be reached: it does not accept a connection")
        case TimeoutError():
            found = OutcomeUnknown(f"{url} did not answer within {timeout:g} s")
        case aiohttp.InvalidURL():
            found = Unreachable(f"{url} is no usable URL")
        case aiohttp.ClientResponseError():
            found = NotSealpost(f"what answers at {url} does not speak HTTP")
        case _:
            found = OutcomeUnknown(f"the connection to {url} was lost", passing=True)
    return found


def explain_proxy_refusal(status: int, *, url: str, proxy: Proxy) -> Unreachable:
    """Return what the status of a proxy means that passed nothing on."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        if proxy.authorization:
            return Unreachable(f"{proxy} refuses the user name and password in {proxy.variable} (407)")
        return Unreachable(f"{proxy} requires a user name and a password: http://USER:PASSWORD@HOST:PORT (407)")
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    verb = "cannot reach" if passing else "refuses to connect to"
    return Unreachable(f"{proxy} {verb} {url} ({status})", passing=passing)


def _explain_proxy_failure(error: Exception, *, url: str, proxy: Proxy) -> Unreachable | None:
    """Return what has gone wrong on the way to the proxy or in it; None for what is not of the proxy alone."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return explain_proxy_refusal(error.status, url=url, proxy=proxy)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(f"{proxy} cannot be reached: {NO_HOST}")
        case aiohttp.ClientProxyConnectionError():
            return Unreachable(f"{proxy} cannot be reached: {_explain_connection(error)}", passing=True)
        case aiohttp.ConnectionTimeoutError():
            return Unreachable(f"{url} cannot be reached: {proxy} makes no connection to it")
        case _:
            return None


def _explain_connection(error: aiohttp.ClientConnectorError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "no connection"


def _explain_certificate(error: Exception) -> str:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    return (
        f"its certificate cannot be verified ({reason}). If the server is your own and its certificate is not from a"
        " public authority, name the certificate, or its authority's, with --ca-file FILE. Otherwise somebody may be"
        " listening in"
    )
