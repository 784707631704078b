"""The outermost layer: gives each request an id, a deadline, a log line and a response with security headers."""

import asyncio
import secrets
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping

import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from multidict import istr

from ..core.logs import AnsweredRequest
from ..core.metrics import Metrics
from ..errors import Malformed, Problem, Unavailable
from .bodies import UNREADABLE
from .deadlines import Deadlines
from .origin import REQUEST_ID, Origin
from .pages import BrowserPages, page_response, prefers_page
from .problems import from_http, from_unreadable, problem_response
from .request_log import RequestLog
from .routing import DEADLINE, DETAILS, PAGE
from .schema import ProblemDetails
from .streaming import STALL_SECONDS, BrokenOff, StreamedResponse

CONTENT_POLICY: str = istr("Content-Security-Policy")
SECURITY_HEADERS: Mapping[str, str] = {
    istr("Cache-Control"): "no-store, no-transform",
    istr("Referrer-Policy"): "no-referrer",
    istr("Server"): "Sealpost",
    istr("X-Content-Type-Options"): "nosniff",
}
STRICT_TRANSPORT = "max-age=63072000"
"""HSTS: browsers use only TLS for 2 years."""
_TLS_HEADERS: Mapping[str, str] = {**SECURITY_HEADERS, istr("Strict-Transport-Security"): STRICT_TRANSPORT}
READINESS = "/readyz"
PROXY, PROXY_UNTRUSTED = "Sealpost-Proxy", "untrusted"
"""Header of the readiness response if the request came through an untrusted proxy."""
UNMATCHED = "unmatched"
BAD_REQUEST = 400

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Complete = Callable[[web.Request, web.StreamResponse], None]


def security_headers(request: web.BaseRequest) -> Mapping[str, str]:
    """Return the headers that each response to a request has, whatever its content."""
    # nginx forwards plain HTTP, and adds the header of TLS itself.
    return _TLS_HEADERS if request.secure else SECURITY_HEADERS


class Edge:
    """The outermost middleware.

    ``pages`` answers browsers where no route does. ``complete`` adds the headers of a feature to each response.
    ``draining`` closes each connection after its response, so that nginx sends the next request to another worker.
    """

    def __init__(
        self,
        origin: Origin,
        metrics: Metrics,
        *,
        request_timeout: float,
        stall_timeout: float = STALL_SECONDS,
        pages: BrowserPages | None = None,
        complete: Complete | None = None,
    ) -> None:
        self._origin = origin
        self._metrics = metrics
        self._request_timeout = request_timeout
        self._deadlines = Deadlines(request_timeout)
        self._stall_timeout = stall_timeout
        self._pages = pages
        self._complete = complete
        self._request_log = RequestLog()
        self.draining = False

    def close(self) -> None:
        """Log what has been answered."""
        self._request_log.write()

    def middleware(self) -> Middleware:
        """Return the middleware for the application's list."""

        @web.middleware
        async def edge(request: web.Request, handler: Handler) -> web.StreamResponse:
            started = time.perf_counter()
            request_id = self._origin.request_id(request)
            response = await self._answer(request, handler, request_id)
            headers = response.headers
            for name, value in security_headers(request).items():
                # The files of the page set their own caching.
                headers.setdefault(name, value)
            headers.setdefault(CONTENT_POLICY, "default-src 'none'; frame-ancestors 'none'")
            headers[REQUEST_ID] = request_id
            if request.path == READINESS and self._origin.came_through_untrusted_proxy(request):
                # For `manage doctor`.
                headers[PROXY] = PROXY_UNTRUSTED
            if self._complete:
                self._complete(request, response)
            if self.draining:
                response.force_close()
            # Not isinstance, which is slow for aiohttp's classes.
            if type(response) is StreamedResponse:
                await self._stream(request, response, request_id)
            method, route, seconds = _method(request), _route(request), time.perf_counter() - started
            self._metrics.request(method, route, response.status, seconds)
            self._request_log.add(AnsweredRequest(request_id, method, route, response.status, seconds))
            return response

        return edge

    async def _answer(self, request: web.Request, handler: Handler, request_id: str) -> web.StreamResponse:
        try:
            self._origin.check(request)
            request[DEADLINE] = deadline = self._deadlines.start()
            with deadline:
                return await handler(request)
        # Keep no error in a variable of this frame: its traceback refers to this frame and to those with the body, and
        # the reference cycle would stay in memory until the garbage collector runs.
        except Problem as error:
            return self._refused(request, error, request_id)
        except web.HTTPException as error:
            page = self._find_page(request) if isinstance(error, web.HTTPNotFound) else None
            return self._refused(request, from_http(error), request_id) if page is None else page
        except TimeoutError:
            return self._refused(request, Unavailable("The request timed out. Try again."), request_id)
        except UNREADABLE as error:
            return self._refused(request, from_unreadable(error), request_id)
        except Exception as error:  # noqa: BLE001 (the client must get a response to any failure)
            self._metrics.unexpected_errors.inc()
            log.error("unexpected error", request_id=request_id, error=type(error).__name__, places=_places(error))
            return self._refused(request, Problem(), request_id)

    def _refused(self, request: web.Request, problem: Problem, request_id: str) -> web.StreamResponse:
        if page := request.get(PAGE) or self._pages_for(request):
            response = page_response(page.refused(request, problem), status=problem.status)
            response.headers.update(problem.headers)
            return response
        # By path, because a request may be rejected before routing.
        details = request.app.get(DETAILS, {}).get(request.path, ProblemDetails)
        return problem_response(problem, request_id, details)

    def _find_page(self, request: web.Request) -> web.Response | None:
        pages = self._pages_for(request)
        return pages.find(request) if pages else None

    def _pages_for(self, request: web.Request) -> BrowserPages | None:
        return self._pages if prefers_page(request.headers.get(hdrs.ACCEPT, "")) else None

    async def _stream(self, request: web.Request, response: StreamedResponse, request_id: str) -> None:
        """Send a streamed response. After the first chunk, time limits apply per chunk."""
        try:
            await response.send(request, making=self._request_timeout, taking=self._stall_timeout)
        except BrokenOff as end:
            if end.is_fault and not isinstance(end.__cause__, Problem):
                self._metrics.unexpected_errors.inc()
            level = log.error if end.is_fault else log.info
            level("streamed response aborted", request_id=request_id, reason=end.reason, places=_places(end.__cause__))
        except asyncio.CancelledError:
            log.info("streamed response aborted", request_id=request_id, reason="stopped", places=[])
            raise


EDGE = web.AppKey("EDGE", Edge)


def _places(error: BaseException | None) -> list[str]:
    # Only type and location: the message and variables of an exception may contain client input.
    frames = traceback.extract_tb(error.__traceback__) if error else ()
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _method(request: web.Request) -> str:
    return request.method if request.method in hdrs.METH_ALL else "other"


def _route(request: web.Request) -> str:
    resource = request.match_info.route.resource
    return resource.canonical if resource else UNMATCHED


def install_parser_error_handler() -> None:
    """Answer malformed requests with problem details, on every aiohttp server of this process; may be called again.

    Process-wide: aiohttp's parser refuses these requests before any application sees them, and aiohttp has no parameter
    for the answer. So this replaces a method of its connection handler.
    """
    web.RequestHandler.handle_error = _handle_error  # type: ignore[method-assign,assignment]


def _handle_error(
    _: object,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,  # noqa: ARG001 (repeats client input)
) -> web.StreamResponse:
    if request.writer.output_size > 0:
        raise ConnectionError("the answer has begun already")
    request_id = secrets.token_hex(16)
    log.warning("request rejected by the HTTP parser", request_id=request_id, status=status, error=type(exc).__name__)
    problem = Malformed("This is not a well-formed HTTP request.") if status == BAD_REQUEST else Problem()
    response = problem_response(problem, request_id)
    response.headers.update({**security_headers(request), REQUEST_ID: request_id})
    response.force_close()
    return response
