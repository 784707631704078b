"""Routes: one declaration gives a request its validation, its documentation and its handler."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from aiohttp import hdrs, web
from pydantic import TypeAdapter

from ..errors import Problem
from .bodies import MAX_BODY, read_body
from .pages import PageMaker, page_response, prefers_page
from .schema import Answer, ProblemDetails, QueryParameters, RequestBody, parse_body, parse_form, parse_query
from .streaming import StreamedResponse

ID_PATTERN = "[0-9a-f]{32}"
_ID_PARAMETER = re.compile(r"{(\w+_id)}")
FORM_TYPE = "application/x-www-form-urlencoded"
DETAILS = web.AppKey("DETAILS", dict[str, type[ProblemDetails]])
"""The problem details of each path that has its own kind."""
PAGE: web.RequestKey[PageMaker] = web.RequestKey("PAGE")
"""What makes a page of whatever a request's route answers, where a browser asks."""

BodyT = TypeVar("BodyT", bound=RequestBody | QueryParameters | None)

Handler = Callable[[web.Request, BodyT], Awaitable[Answer | web.Response | str | AsyncGenerator[bytes, None] | None]]
"""Takes the request and its validated body or query.

Returns the answer, or a text, or its chunks where the answer is streamed, or None for one without content; a whole
response where it has headers of its own.
"""

Shell = Callable[[web.Request], web.Response]
"""What answers a browser by the request's headers alone."""


class Guard(Protocol):
    """What a request must pass before its body is read; ``scope`` is what an API token needs, if one will do."""

    scope: str | None
    problems: tuple[type[Problem], ...]

    async def admit(self, request: web.Request) -> None:
        """Raise one of the problems unless the request may go on."""


class StorageControl(Protocol):
    """Limits on the content that requests store."""

    def admit(self) -> None:
        """Raise `StorageFull` while nothing can be stored."""

    def storing(self, request: web.Request, size: int) -> AbstractAsyncContextManager[None]:
        """Let the block store so many bytes for a request. Raises `StorageFull`, `LimitReached`, `Unavailable`."""


@dataclass(frozen=True, kw_only=True)
class Route(Generic[BodyT]):
    """A method and path with all that is promised about it; a path's parameter ``…_id`` is 32 hexadecimal digits.

    ``guard`` is passed before the body is read. ``optional_guard`` is documented and not applied: its handler takes the
    credentials from the body as well. ``form`` holds those fields of the body that a web form may send too, and
    ``page`` makes of the answer, or of a problem, what a browser gets. ``shell`` is what a browser gets instead,
    without asking the handler. ``text`` is the media type of an answer that is a text instead, and ``lines`` is the
    type of each line of a streamed one. ``status_of`` tells the status of an answer that may have one of
    ``other_statuses``. ``problems`` are those that this route adds to the ones that every route may answer with;
    ``details`` is what it tells of each. ``needs_database`` is False for a route that answers without the database.
    ``stores`` is true of a route that creates documents: it is refused before its body is read while storage is full,
    and the bytes of its body count against the caller's budget.
    ``max_body`` is the size of the largest body in bytes.
    """

    method: str
    path: str
    summary: str
    description: str = ""
    tag: str
    guard: Guard | None = None
    optional_guard: Guard | None = None
    handler: Handler[BodyT]
    body: type[BodyT] | None = None
    form: type[RequestBody] | None = None
    max_body: int = MAX_BODY
    query: type[BodyT] | None = None
    answer: type[Answer] | None = None
    page: PageMaker | None = None
    shell: Shell | None = None
    text: str | None = None
    lines: type[Answer] | None = None
    status: int = 200
    other_statuses: tuple[int, ...] = ()
    status_of: Callable[[Any], int] | None = None
    problems: tuple[type[Problem], ...] = ()
    details: type[ProblemDetails] = ProblemDetails
    needs_database: bool = True
    stores: bool = False


def id_of(request: web.Request, parameter: str) -> bytes:
    """Return the 16 bytes that a path's parameter ``…_id`` stands for."""
    return bytes.fromhex(request.match_info[parameter])


def add_routes(
    app: web.Application,
    routes: Iterable[Route[Any]],
    admit_to_database: Callable[[], Awaitable[None]] | None = None,
    storage: StorageControl | None = None,
) -> None:
    """Serve the routes; one that answers GET answers HEAD too.

    ``admit_to_database`` raises a problem while this process must not use the database. ``storage`` limits the routes
    that store.
    """
    details = app.setdefault(DETAILS, {})
    for route in routes:
        if route.details is not ProblemDetails:
            details[route.path] = route.details
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        # An id is 32 hexadecimal digits. So /posts/analytics is no post, also when it comes to what it allows.
        path = _ID_PARAMETER.sub(rf"{{\1:{ID_PATTERN}}}", route.path)
        for method in methods:
            app.router.add_route(method, path, _endpoint(route, admit_to_database, storage), expect_handler=_expect)


def json_response(body: bytes, *, status: int = 200, content_type: str = "application/json") -> web.Response:
    """Return a response of ready-made JSON."""
    return web.Response(body=body, status=status, headers={"Content-Type": content_type})


async def _expect(request: web.Request) -> None:
    """Let a client go on that waits for leave to send its body; pass over other expectations (RFC 9110, 10.1.1)."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        # This does not count as the answer.
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
        body: Any = None
        size = 0
        if route.query:
            body = parse_query(route.query, list(request.query.items()))
        elif route.body:
            raw = await read_body(request, route.max_body)
            size = len(raw)
            body = _parsed(route.body, route.form, request, raw)
        if storage and route.stores:
            async with storage.storing(request, size):
                answer = await route.handler(request, body)
        else:
            answer = await route.handler(request, body)
        if isinstance(answer, AsyncGenerator):
            return await StreamedResponse.begin(answer, status=route.status)
        return answer if isinstance(answer, web.Response) else written(request, answer)

    def written(request: web.Request, answer: Any) -> web.Response:
        if route.text:
            return web.Response(body=str(answer).encode(), status=route.status, headers={hdrs.CONTENT_TYPE: route.text})
        if answers is None:
            return web.Response(status=route.status)
        if page := request.get(PAGE):
            return page_response(page.answered(request, answer), status=route.status)
        status = route.status_of(answer) if route.status_of else route.status
        response = json_response(answers.dump_json(answer), status=status)
        if varies:
            response.headers[hdrs.VARY] = hdrs.ACCEPT
        return response

    return endpoint


def _parsed(schema: type[RequestBody], form: type[RequestBody] | None, request: web.Request, raw: bytes) -> RequestBody:
    # curl sends JSON as a form unless told otherwise, so what looks like JSON is JSON.
    if form and raw and request.content_type == FORM_TYPE and not raw.lstrip().startswith(b"{"):
        return parse_form(form, schema, raw)
    return parse_body(schema, raw)
