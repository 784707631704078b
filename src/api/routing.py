"""Routes: a single declaration defines validation, documentation and handler of a request."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import hdrs, web
from pydantic import TypeAdapter

from ..errors import Problem, UnsupportedMediaType
from .bodies import MAX_BODY, read_body
from .deadlines import Deadline
from .pages import PageMaker, page_response, prefers_page
from .schema import Answer, ProblemDetails, QueryParameters, RequestBody, parse_body, parse_form, parse_query
from .streamed_bodies import StreamedBody

ID_PATTERN = "[0-9a-f]{32}"
_ID_PARAMETER = re.compile(r"{(\w+_id)}")
_KEY_PARAMETER = re.compile(r"{(\w+_key)}$")
FORM_TYPE = "application/x-www-form-urlencoded"
DETAILS = web.AppKey("DETAILS", dict[str, type[ProblemDetails]])
"""The types of problem details, by path, of routes with their own type."""
PAGE: web.RequestKey[PageMaker] = web.RequestKey("PAGE")
"""Renders the response to this request as a page; set if a browser prefers one."""

DEADLINE = web.RequestKey("DEADLINE", Deadline)
"""The overall time limit of this request."""

BodyT = TypeVar("BodyT", bound=RequestBody | QueryParameters | StreamedBody | None)

Handler = Callable[[web.Request, BodyT], Awaitable[Answer | web.StreamResponse | str | None]]
"""Handles a request, given its validated body or query, or its streamed body.

Returns an answer, a text, None for no content, or a complete response with its own headers, which may be a
`StreamedResponse`.
"""

Shell = Callable[[web.Request], web.Response]
"""Creates the response for a browser from the request's headers alone."""


class Guard(Protocol):
    """Authorizes a request before its body is read; ``scope`` is what an API token needs, None if none suffices.

    Without ``is_required``, a request without credentials is authorized as well.
    """

    scope: str | None
    is_required: bool
    problems: tuple[type[Problem], ...]

    async def admit(self, request: web.Request) -> None:
        """Raise one of ``problems`` unless the request is authorized."""


class StorageControl(Protocol):
    """Limits on the content that requests store."""

    def admit(self) -> None:
        """Raise `StorageFull` while storage is full."""

    def storing(self, request: web.Request, size: int, payer: bytes | None = None) -> AbstractAsyncContextManager[None]:
        """Allow the block to store ``size`` bytes. Raises `StorageFull`, `LimitReached`, `Unavailable`.

        ``payer`` is the `StreamedBody.payer` of the request's body.
        """


@dataclass(frozen=True)
class Header:
    """A header field of a request, for the documentation: the handler reads it.

    An ``example`` that begins with ``$`` stands for a value from an earlier response.
    """

    meaning: str
    example: str | None = None
    pattern: str | None = None
    is_required: bool = False


@dataclass(frozen=True, kw_only=True)
class Route(Generic[BodyT]):
    """A method and path with their complete contract; a path parameter ``…_id`` is 32 hexadecimal digits.

    A slash after a path parameter ``…_key`` at the end of a path is ignored. ``path_parameters`` has their meanings,
    and ``headers`` the header fields that the handler reads. ``guard`` runs before the body is read. ``optional_guard``
    is documented but not applied: the handler also accepts credentials from the body. ``form`` has the fields of the
    body that a web form may send.
    For browsers, ``page`` renders the answer or a problem, and ``shell`` replaces the handler.
    ``text`` is the media type of a text response, ``lines`` the type of each line of a streamed response.
    ``is_file`` is True for a response that is a file of any type.
    ``status_of`` returns the status of an answer that may have one of ``other_statuses``. ``problems`` are those of
    this route, in addition to the common ones; ``details`` is the type of their details.
    ``needs_database`` is False for a route that works without the database. ``stores`` is True for a route that creates
    documents: it is rejected before its body is read while storage is full, and its body counts against the caller's
    byte budget. ``max_body`` is in bytes. ``overhead`` is the number of bytes that a route stores in addition to its
    body.
    ``streamed_body`` is the media type of a body that the handler reads while it arrives. Such a route has no overall
    time limit, and its handler asks before it stores each part.
    """

    method: str
    path: str
    path_parameters: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, Header] = field(default_factory=dict)
    summary: str
    description: str = ""
    tag: str
    guard: Guard | None = None
    optional_guard: Guard | None = None
    handler: Handler[BodyT]
    body: type[BodyT] | None = None
    form: type[RequestBody] | None = None
    streamed_body: str | None = None
    max_body: int = MAX_BODY
    query: type[BodyT] | None = None
    answer: type[Answer] | None = None
    page: PageMaker | None = None
    shell: Shell | None = None
    text: str | None = None
    lines: type[Answer] | None = None
    is_file: bool = False
    status: int = 200
    other_statuses: tuple[int, ...] = ()
    status_of: Callable[[Any], int] | None = None
    problems: tuple[type[Problem], ...] = ()
    details: type[ProblemDetails] = ProblemDetails
    needs_database: bool = True
    stores: bool = False
    overhead: int = 0


def allow_seconds(request: web.Request, seconds: float) -> None:
    """Let a request take at least this time from now, whatever its time limit."""
    if DEADLINE in request:
        request[DEADLINE].allow(seconds)


def id_of(request: web.Request, parameter: str) -> bytes:
    """Return the 16 bytes of a path parameter ``…_id``."""
    return bytes.fromhex(request.match_info[parameter])


def add_routes(
    app: web.Application,
    routes: Iterable[Route[Any]],
    admit_to_database: Callable[[], Awaitable[None]] | None = None,
    storage: StorageControl | None = None,
) -> None:
    """Add the routes to the application; each GET route also supports HEAD.

    ``admit_to_database`` raises a problem while this process must not use the database. ``storage`` limits routes that
    store content.
    """
    details = app.setdefault(DETAILS, {})
    for route in routes:
        if route.details is not ProblemDetails:
            details[route.path] = route.details
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        # The pattern keeps /posts/analytics from matching /posts/{post_id}, also in the Allow header.
        path = _ID_PARAMETER.sub(rf"{{\1:{ID_PATTERN}}}", route.path)
        # Mail programs and browsers add a slash to links. The parser of the key ignores it.
        path = _KEY_PARAMETER.sub(r"{\1:[^{}/]+/?}", path)
        for method in methods:
            app.router.add_route(method, path, _endpoint(route, admit_to_database, storage), expect_handler=_expect)


def json_response(body: bytes, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    """Return a response with serialized JSON."""
    return web.Response(body=body, status=status, headers={hdrs.CONTENT_TYPE: content_type})


async def _expect(request: web.Request) -> None:
    """Answer ``Expect: 100-continue``; ignore other expectations (RFC 9110, section 10.1.1)."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # An interim response does not count as the response.
        request.writer.output_size = 0


def _endpoint(
    route: Route[Any], admit_to_database: Callable[[], Awaitable[None]] | None, storage: StorageControl | None
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    answers = TypeAdapter[Any](route.answer) if route.answer else None
    varies = route.shell is not None or route.page is not None

    async def endpoint(request: web.Request) -> web.StreamResponse:
        if varies and prefers_page(request.headers.get(hdrs.ACCEPT, "")):
            if route.shell:
                return route.shell(request)
            if route.page:
                request[PAGE] = route.page
        if route.needs_database and admit_to_database:
            await admit_to_database()
        if route.guard:
            await route.guard.admit(request)
        if storage and route.stores:
            storage.admit()
        if route.streamed_body:
            return await streamed(request)
        body: Any = None
        size = route.overhead
        if route.query:
            body = parse_query(route.query, list(request.query.items()))
        elif route.body:
            raw = await read_body(request, route.max_body)
            size += len(raw)
            body = _parsed(route.body, route.form, request, raw)
        if storage and route.stores:
            async with storage.storing(request, size):
                answer = await route.handler(request, body)
        else:
            answer = await route.handler(request, body)
        return responded(request, answer)

    async def streamed(request: web.Request) -> web.StreamResponse:
        if request.content_type != route.streamed_body:
            raise UnsupportedMediaType(f"The Content-Type of the body must be {route.streamed_body}.")
        body: Any = StreamedBody(request, partial(storage.storing, request) if storage else lambda *_: nullcontext())
        # From here on, each step has its own time limit.
        if DEADLINE in request:
            request[DEADLINE].lift()
        return responded(request, await route.handler(request, body))

    def responded(request: web.Request, answer: Any) -> web.StreamResponse:
        # The cheap test first: isinstance is slow for aiohttp's classes.
        if type(answer) is route.answer or not isinstance(answer, web.StreamResponse):
            return written(request, answer)
        return answer

    def written(request: web.Request, answer: Any) -> web.Response:
        if route.text:
            return web.Response(body=str(answer).encode(), status=route.status, headers={hdrs.CONTENT_TYPE: route.text})
        if answers is None:
            return web.Response(status=route.status)
        if route.page and (page := request.get(PAGE)):
            return page_response(page.answered(request, answer), status=route.status)
        status = route.status_of(answer) if route.status_of else route.status
        response = json_response(answers.serializer.to_json(answer), status=status)
        if varies:
            response.headers[hdrs.VARY] = hdrs.ACCEPT
        return response

    return endpoint


def _parsed(schema: type[RequestBody], form: type[RequestBody] | None, request: web.Request, raw: bytes) -> RequestBody:
    # curl labels JSON as a form by default, so a body that looks like JSON is parsed as JSON.
    if form and raw and request.content_type == FORM_TYPE and not raw.lstrip().startswith(b"{"):
        return parse_form(form, schema, raw)
    return parse_body(schema, raw)
