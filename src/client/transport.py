"""HTTP to one server: timeouts, retries, and an explanation of every failure.

`Transport.send` returns every response of a Sealpost server, including problems, as a `Response`. It raises only if
there is no such response. It sends a token only if given one, and follows no redirect.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import aiohttp

from .. import __version__
from .addresses import is_plain
from .errors import UNSURE, ClientError, NotSealpost, OutcomeUnknown, Unreachable, WrongUsage
from .policy import Resend
from .proxies import Proxy
from .responses import NO_HEADERS, JsonObject, Response, parse_body

LARGEST_ANSWER = 32 * 1024 * 1024
"""Bytes; a page of 100 posts with each character escaped has about 12 MiB."""
CONNECT_SECONDS = 10.0
LONGEST_WAIT = 30
"""Longest `Retry-After`, in seconds, after which a request is retried."""
PAUSES = (0.3, 1.0)
"""Seconds before each retry, unless the server sends `Retry-After`."""

NO_HOST = "unknown host, or no network"
LONGEST_NUMBER = 9
REDIRECTIONS = range(300, 400)
STREAMED = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT)

# From nginx, which has lost the worker or timed out.
_LOST = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})


@dataclass(frozen=True)
class Incoming:
    """A response with its body in ``chunks``, if it was successful; other bodies are in ``answer``."""

    answer: Response
    chunks: AsyncGenerator[bytes, None]


class Transport:
    """Connections to one server; an asynchronous context manager.

    ``tls`` is None for plain http, ``proxy`` is None for a direct connection. ``timeout`` is in seconds, for an attempt
    from connecting to the last byte of the response. ``notify`` is called before each retry. ``keep_alive`` reuses
    connections, for programs that send many requests; a request is lost if the server closes its connection meanwhile.
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
        connect = min(CONNECT_SECONDS, timeout)
        self._whole = aiohttp.ClientTimeout(total=timeout, connect=connect)
        self._parts = aiohttp.ClientTimeout(total=None, connect=connect, sock_read=timeout)
        self._proxy = proxy
        self._keep_alive, self._connections = keep_alive, connections
        self._stack = AsyncExitStack()
        self._shared: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Raise `WrongUsage` for plain http to another machine without ``allow_http``."""
        if is_plain(self.url) and not self.allow_http:
            raise WrongUsage(
                f"{self.url} is plain http to another machine, so others could read your data on the way. Use https, or"
                " --allow-http if you trust the network"
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
        headers: Mapping[str, str] = NO_HEADERS,
        token: str | None = None,
        resend: Resend = Resend.NEVER,
        extra_seconds: float = 0,
    ) -> Response:
        """Send a request, retry it if allowed, and return the response, whatever its status.

        Each attempt may take ``extra_seconds`` in addition to the timeout.

        Raises `Unreachable` if there is no response and the request had no effect, `OutcomeUnknown` if it may have had
        one, and `NotSealpost`.
        """
        after_loss = False
        outcome: Response | Unreachable
        for pause in (*PAUSES, None):
            try:
                outcome = await self.send_once(
                    method, path, body, query=query, headers=headers, token=token, extra_seconds=extra_seconds
                )
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
        headers: Mapping[str, str] = NO_HEADERS,
        token: str | None = None,
        extra_seconds: float = 0,
    ) -> Response:
        """Return the response to a single attempt, which may be a gateway's 502 or 504; raises the errors of `send`."""
        sent = {**headers, "Authorization": f"Bearer {token}"} if token else dict(headers)
        data = None
        if body is not None:
            sent["Content-Type"] = "application/json"
            data = _encode(body)
        limits = aiohttp.ClientTimeout(total=self._timeout + extra_seconds, connect=self._whole.connect)
        with self._explaining(extra_seconds):
            async with self._request(method, path, headers=sent, data=data, query=query, limits=limits) as response:
                return await self._read(response, path)

    async def send_stream(
        self, method: str, path: str, chunks: AsyncIterator[bytes], headers: Mapping[str, str]
    ) -> Response:
        """Return the response to a single attempt whose body is a stream; raises the errors of `send`.

        A `ClientError` from ``chunks`` is raised, too. The timeout is for each chunk, and then for the response.
        """
        failure: Exception | None = None
        loop = asyncio.get_running_loop()
        try:
            with self._explaining():
                async with asyncio.timeout(self._timeout) as limit:

                    async def body() -> AsyncGenerator[bytes, None]:
                        nonlocal failure
                        try:
                            async for chunk in chunks:
                                limit.reschedule(loop.time() + self._timeout)
                                yield chunk
                        except ClientError as error:
                            # aiohttp would replace it by an error of its own.
                            failure = error
                            raise

                    async with self._request(
                        method, path, headers=headers, data=body(), limits=self._parts
                    ) as response:
                        return await self._read(response, path)
        except Unreachable:
            if failure:
                raise failure from None
            raise

    @asynccontextmanager
    async def receive_stream(self, path: str, headers: Mapping[str, str]) -> AsyncGenerator[Incoming, None]:
        """Send a GET and yield its response before its body has arrived; raises the errors of `send`.

        The timeout is for the headers, and for each chunk.
        """
        sent = {"Accept-Encoding": "identity", **headers}
        async with AsyncExitStack() as stack:
            with self._explaining():
                response = await stack.enter_async_context(self._request("GET", path, headers=sent, limits=self._parts))
                if response.status in STREAMED:
                    answer = Response(self.url, response.status, JsonObject(), headers=response.headers)
                else:
                    answer = await self._read(response, path)
            yield Incoming(answer, self._receive(response))

    async def _receive(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        with self._explaining():
            async for chunk in response.content.iter_any():
                yield chunk

    @contextmanager
    def _explaining(self, extra_seconds: float = 0) -> Generator[None, None, None]:
        try:
            yield
        except UnicodeError:
            raise WrongUsage("the input is not UTF-8") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            timeout = self._timeout + extra_seconds
            raise explain_failure(error, url=self.url, timeout=timeout, proxy=self._proxy) from None

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        limits: aiohttp.ClientTimeout,
        data: bytes | AsyncIterator[bytes] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        """Send a request and yield the response, of which the server may not have sent the body yet."""
        sent, proxy_headers = dict(headers), dict[str, str]()
        if self._proxy and self._proxy.authorization:
            # For the proxy only: with https, the CONNECT request carries it.
            for_proxy = proxy_headers if self._tls else sent
            for_proxy["Proxy-Authorization"] = self._proxy.authorization
        async with (
            nullcontext(self._shared) if self._shared else self._new_session() as session,
            session.request(
                method,
                self.url + path,
                data=data,
                params=query,
                headers=sent,
                timeout=limits,
                allow_redirects=False,
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=proxy_headers or None,
            ) as response,
        ):
            yield response

    def _new_session(self) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls or True, limit=self._connections),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": f"sealpost/{__version__}", "Accept": "application/json"},
        )
        # aiohttp would retry GET, PUT and DELETE by itself, including a change of password.
        session._retry_connection = False  # noqa: SLF001 (there is no public option)
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
                raise NotSealpost(f"the response of {self.url} is too large to be from Sealpost")
        body = parse_body(bytes(raw))
        seconds = response.headers.get("Retry-After", "")[:LONGEST_NUMBER]
        return Response(
            self.url,
            response.status,
            JsonObject() if body is None else body,
            is_json=body is not None,
            retry_after=int(seconds) if seconds.isdecimal() else None,
            headers=response.headers,
        )


def _explain_redirect(url: str, path: str, location: str) -> Unreachable:
    """Return the error for a redirect; its message omits ``path``, which may contain a key."""
    target = urlsplit(urljoin(url + path, location))
    if urlsplit(url).scheme == "https" and target.scheme != "https":
        return Unreachable(f"{url} redirects to an address without https, which is not allowed")
    prefix = target.path.removesuffix(path) if target.path.endswith(path) else ""
    host = target.netloc.rpartition("@")[2]
    return Unreachable(f"{url} redirects to {target.scheme}://{host}{prefix}: use that URL instead")


def wait_to_resend(outcome: Response | Unreachable, resend: Resend, pause: float | None) -> float | None:
    """Return the seconds to wait before a retry; None if the request must not or need not be retried.

    ``pause`` applies if the server sends no `Retry-After`; it is None after the last attempt.
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
    """Return whether the request may have been carried out although its response was lost."""
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
    """Return the error for a failed request; ``timeout`` is in seconds."""
    found: Unreachable
    if proxy and (failure := _explain_proxy_failure(error, url=url, proxy=proxy)):
        return failure
    match error:
        case aiohttp.ClientConnectorCertificateError():
            found = Unreachable(f"{url} is not trusted: {_explain_certificate(error.certificate_error)}")
        case aiohttp.ClientSSLError():
            found = Unreachable(f"the TLS handshake with {url} failed. Is it an http:// server?")
        case aiohttp.ClientConnectorDNSError():
            found = Unreachable(f"cannot reach {url}: {NO_HOST}")
        case aiohttp.ClientConnectorError():
            found = Unreachable(f"cannot reach {url}: {_explain_connection(error)}", passing=True)
        case aiohttp.ConnectionTimeoutError():
            found = Unreachable(f"cannot reach {url}: the connection timed out")
        case TimeoutError():
            found = OutcomeUnknown(f"{url} did not answer within {timeout:g} s")
        case aiohttp.InvalidURL():
            found = Unreachable(f"{url} is not a valid URL")
        case aiohttp.ClientResponseError():
            found = NotSealpost(f"{url} does not answer with valid HTTP")
        case _:
            found = OutcomeUnknown(f"the connection to {url} was lost", passing=True)
    return found


def explain_proxy_refusal(status: int, *, url: str, proxy: Proxy) -> Unreachable:
    """Return the error for a status from a proxy that did not forward the request."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        if proxy.authorization:
            return Unreachable(f"{proxy} rejects the user name and password in {proxy.variable} (407)")
        return Unreachable(f"{proxy} requires a user name and a password: http://USER:PASSWORD@HOST:PORT (407)")
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    verb = "cannot reach" if passing else "refuses to connect to"
    return Unreachable(f"{proxy} {verb} {url} ({status})", passing=passing)


def _explain_proxy_failure(error: Exception, *, url: str, proxy: Proxy) -> Unreachable | None:
    """Return the error for a failure of the proxy itself; None for any other."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return explain_proxy_refusal(error.status, url=url, proxy=proxy)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(f"cannot reach {proxy}: {NO_HOST}")
        case aiohttp.ClientProxyConnectionError():
            return Unreachable(f"cannot reach {proxy}: {_explain_connection(error)}", passing=True)
        case aiohttp.ConnectionTimeoutError():
            return Unreachable(f"cannot reach {url}: {proxy} does not connect to it")
        case _:
            return None


def _explain_connection(error: aiohttp.ClientConnectorError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "no connection"


def _explain_certificate(error: Exception) -> str:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    return (
        f"its certificate cannot be verified ({reason}). If it is your own server, with a certificate that is not from"
        " a public authority, give that certificate, or its authority's, with --ca-file FILE. Otherwise the connection"
        " may be intercepted"
    )
