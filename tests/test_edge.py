"""The HTTP edge: any client input, and the format of every response."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from src.api.edge import EDGE, SECURITY_HEADERS, Edge
from src.api.openapi import openapi_document
from src.api.origin import Origin
from src.api.routing import Route, add_routes
from src.api.schema import Answer, ProblemDetails
from src.core.metrics import Metrics
from src.errors import Problem, Unavailable
from src.settings import Settings

from .conftest import Api, RawAnswer
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]
MIB = 1024 * 1024


def check_problem(status: int, body: bytes) -> ProblemDetails:
    """Check that a response is a problem in the common format, and return it."""
    problem = ProblemDetails.model_validate_json(body)

    assert (status, problem.Error) == (problem.status, problem.detail)
    assert "about:blank" == problem.type
    assert re.fullmatch(r"[a-z_]+", problem.code)
    assert problem.detail.endswith((".", "not found", "phrase"))
    assert problem.title
    return problem


BAD_BODIES = {
    "nothing": (b"", "secret"),
    "an empty object": (b"{}", "secret"),
    "white space": (b"  \n", None),
    "not JSON": (b"secret=hello", None),
    "half a document": (b'{"secret": "x"', None),
    "two documents": (b'{"secret": "x"}{}', None),
    "an array": (b'["secret"]', "body"),
    "a string": (b'"secret"', "body"),
    "null": (b"null", "body"),
    "a number": (b'{"secret": 5}', "secret"),
    "a null secret": (b'{"secret": null}', "secret"),
    "an empty secret": (b'{"secret": ""}', "secret"),
    "an unknown field": (b'{"secret": "x", "colour": "crimson"}', "colour"),
    "a nested unknown field": (b'{"secret": "x", "ttl": {"weeks": 1}}', "ttl.weeks"),
    "a long unknown field": (b'{"secret": "x", "%s": 1}' % (b"y" * 5000), "y" * 64),
    "not a number": (b'{"secret": "x", "max_opens": NaN}', "max_opens"),
    "infinity": (b'{"secret": "x", "max_opens": Infinity}', "max_opens"),
    "NaN nobody asked for": (b'{"secret": "x", "n": NaN}', "n"),
    "a fraction": (b'{"secret": "x", "max_opens": 1.5}', "max_opens"),
    "a number as text": (b'{"secret": "x", "max_opens": "2"}', "max_opens"),
    "true for one": (b'{"secret": "x", "max_opens": true}', "max_opens"),
    "too many openings": (b'{"secret": "x", "max_opens": 101}', "max_opens"),
    "no attempts": (b'{"secret": "x", "max_attempts": 0}', "max_attempts"),
    "an endless number": (b'{"secret": "x", "max_opens": 1%s}' % (b"0" * 5000), None),
    "a phrase of 10 kB": (b'{"secret": "x", "phrase": "%s"}' % (b"p" * 10_000), "phrase"),
    "an empty phrase": (b'{"secret": "x", "phrase": ""}', "phrase"),
    "a list for ttl": (b'{"secret": "x", "ttl": []}', "ttl"),
    "text for ttl": (b'{"secret": "x", "ttl": "1 day"}', "ttl"),
    "invalid UTF-8": (b'{"secret": "\xff\xfe"}', None),
    "half a surrogate pair": (b'{"secret": "\\ud800"}', None),
    "UTF-16": ('{"secret": "x"}'.encode("utf-16"), None),
    "deep nesting": (b'{"secret": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None),
    "deep objects": (b'{"ttl": ' * 5000 + b"1" + b"}" * 5000, None),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_an_invalid_body_gets_a_helpful_error(api: Api, name: str) -> None:
    """It gets a 400 that names the field and repeats no value."""
    body, field = BAD_BODIES[name]

    answer = await api.send("POST", "/generate", body)

    problem = check_problem(answer.status, answer.body)
    assert (400, "malformed") == (answer.status, problem.code)
    assert "application/problem+json" == answer.headers["Content-Type"]
    if field:
        assert field in [error["field"] for error in problem.errors or []]
    assert b"crimson" not in answer.body
    assert b"1 day" not in answer.body
    assert b"hello" not in answer.body


async def test_a_body_of_one_mebibyte_is_the_limit(api: Api) -> None:
    """Up to 1 MiB is accepted; 1 byte more is a 413 in the common format."""
    frame = b'{"secret": ""}'
    largest = b'{"secret": "%s"}' % (b"x" * (MIB - len(frame)))

    fits = await api.send("POST", "/generate", largest)
    over = await api.send("POST", "/generate", largest + b" ")
    far_over = await api.send("POST", "/generate", b"x" * 2 * MIB)

    assert (MIB, 201) == (len(largest), fits.status)
    opened = await api.open(fits.json()["secret_key"])
    assert MIB - len(frame) == len(opened[1]["secret"])
    for answer in (over, far_over):
        assert (413, "too_large") == (answer.status, check_problem(413, answer.body).code)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing/here", 404, "not_found"),
        ("GET", "/secrets/", 404, "not_found"),
        ("PUT", "/generate", 405, "method_not_allowed"),
        ("OPTIONS", "/generate", 405, "method_not_allowed"),
        ("BREW", "/generate", 400, "malformed"),
        ("PROPFIND", "/generate", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
async def test_a_wrong_address_or_method_is_a_problem(api: Api, method: str, path: str, status: int, code: str) -> None:
    """Errors of the library have the common format, too, with Allow if needed."""
    answer = await api.send(method, path)

    assert (status, code) == (answer.status, check_problem(status, answer.body).code)
    if status == 405:
        assert answer.headers["Allow"] == {"/generate": "POST", "/healthz": "GET, HEAD"}[path]


async def test_every_response_has_the_security_headers(api: Api) -> None:
    """On every route and status: no caching, sniffing, framing or referrer, and a request id."""
    answers = [
        await api.send("POST", "/generate", b'{"secret": "x"}'),
        await api.send("POST", "/generate", b"nonsense"),
        await api.send("GET", "/healthz"),
        await api.send("GET", "/openapi.json"),
        await api.send("GET", "/nothing"),
        await api.send("PATCH", "/generate"),
        await api.send("POST", "/generate", b"x" * (MIB + 1)),
    ]

    for answer in answers:
        assert SECURITY_HEADERS == {name: answer.headers.get(name) for name in SECURITY_HEADERS}
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    assert len(answers) == len({answer.headers["X-Request-ID"] for answer in answers})


async def raw(api: Api, request: bytes, *, hang_up: bool = False) -> bytes:
    """Send raw bytes, and return all bytes of the response."""
    reader, writer = await asyncio.open_connection(api.client.host, api.client.port)
    writer.write(request)
    if hang_up:
        writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    await writer.wait_closed()
    return answer


@pytest.mark.parametrize(
    "request_line",
    [
        "GET /secrets/kéy HTTP/1.1".encode(),
        b"GET /secrets/s3cretkey HTTP/9.9",
        b"G\x00T /secrets/s3cretkey HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01\x00s3cretkey",
        b"POST /generate HTTP/1.1\r\nContent-Length: s3cretkey",
        b"GET / HTTP/1.1\r\nX: " + b"s3cretkey" * 4000,
    ],
)
async def test_invalid_http_gets_a_problem_that_repeats_nothing(
    api: Api, request_line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Errors of the parser have the common format; neither response nor log contains the invalid line."""
    answer = await raw(api, request_line + b"\r\n\r\n")

    head, _, body = answer.partition(b"\r\n\r\n")
    assert b" 400 " in head.splitlines()[0]
    assert b"application/problem+json" in head
    assert b"no-store" in head
    check_problem(400, body)
    printed = "".join(capsys.readouterr())
    for secret in (b"s3cretkey", "kéy".encode()):
        assert secret not in answer
        assert secret.decode() not in printed


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{}",
        b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
async def test_an_incomplete_body_is_no_server_error(api: Api, request_bytes: bytes) -> None:
    """A body that ends early or has the wrong encoding is at most a 400."""
    answer = await raw(api, request_bytes, hang_up=True)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


async def test_a_body_in_a_wrong_encoding_is_a_400(api: Api) -> None:
    """A body that is declared as compressed but is not is the client's error."""
    answer = await api.send("POST", "/generate", b'{"secret": "x"}', **{"Content-Encoding": "gzip"})

    assert "malformed" == check_problem(400, answer.body).code


async def test_an_expectation_is_met_or_ignored(api: Api) -> None:
    """A client that waits for 100 Continue gets it; other expectations are ignored."""
    body = b'{"secret": "x"}'
    head = b"POST /generate HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n" % len(body)

    waiting = await raw(api, head + b"Expect: 100-continue\r\n\r\n" + body)
    strange = await raw(api, head + b"Expect: s3cretkey\r\n\r\n" + body)

    assert waiting.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201")
    assert strange.startswith(b"HTTP/1.1 201")


async def test_any_http_error_is_a_problem(make_settings: Callable[..., Settings]) -> None:
    """Any HTTP error of the library is returned in the common format."""

    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPUnprocessableEntity

    edge = Edge(Origin(make_settings()), Metrics.off(), request_timeout=PATIENCE)
    app = web.Application(middlewares=[edge.middleware()])
    app.router.add_get("/", refuse)
    async with TestClient(TestServer(app)) as client, client.get("/") as answer:
        assert "malformed" == check_problem(400, await answer.read()).code


async def test_an_unexpected_error_discloses_nothing(make_settings: Callable[..., Settings]) -> None:
    """A bug answers 500 with the request id; neither response nor log contains the exception's message."""

    async def fail(request: web.Request) -> web.Response:
        raise ValueError("s3cret value")

    edge = Edge(Origin(make_settings()), Metrics.off(), request_timeout=PATIENCE)
    app = web.Application(middlewares=[edge.middleware()])
    app.router.add_get("/", fail)
    async with TestClient(TestServer(app)) as client, client.get("/") as answer:
        body = await answer.read()

    problem = check_problem(500, body)
    assert "internal_error" == problem.code
    assert b"s3cret" not in body
    assert problem.request_id == answer.headers["X-Request-ID"]


class Outcome(Answer):
    """A response that knows its status."""

    outcome: int


class ToldOutcome(ProblemDetails):
    """A problem with the additional members of its route."""

    outcome: int

    @classmethod
    def of(cls, problem: Problem, request_id: str, **members: Any) -> Self:
        """Add the member."""
        return super().of(problem, request_id, outcome=problem.status, **members)


async def test_a_route_may_have_several_statuses_and_members_of_its_own(make_settings: Callable[..., Settings]) -> None:
    """Each response has its own status, and all problems have the route's additional members."""

    async def handler(request: web.Request, _: None) -> Outcome:
        kind = request.query.get("kind", "")
        if kind == "slow":
            await asyncio.sleep(60)
        if kind == "bug":
            raise ValueError
        if kind == "full":
            raise Unavailable
        return Outcome(outcome=int(kind))

    route = Route[None](
        method="POST",
        path="/",
        tag="test",
        summary="Try",
        handler=handler,
        answer=Outcome,
        status=201,
        other_statuses=(202,),
        status_of=lambda answer: answer.outcome,
        details=ToldOutcome,
    )
    for request_timeout, statuses in (
        (PATIENCE, {"201": 201, "202": 202, "bug": 500, "full": 503}),
        (0.05, {"slow": 503}),
    ):
        edge = Edge(Origin(make_settings()), Metrics.off(), request_timeout=request_timeout)
        app = web.Application(middlewares=[edge.middleware()])
        add_routes(app, [route])
        async with TestClient(TestServer(app)) as client:
            for kind, status in statuses.items():
                async with client.post("/", params={"kind": kind}) as answer:
                    assert (status, status) == (answer.status, (await answer.json(content_type=None))["outcome"])
    responses = openapi_document([route]).paths["/"]["post"]["responses"]
    assert {"201", "202", "403", "421", "429", "503"} == set(responses)
    assert responses["201"]["content"] == responses["202"]["content"]
    assert "ToldOutcome" in str(responses["503"])


async def test_a_request_times_out(make_settings: Callable[..., Settings]) -> None:
    """After the timeout it is answered 503 with Retry-After, and the handler is cancelled."""
    cancelled = asyncio.Event()

    async def wait(request: web.Request) -> web.Response:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return web.Response()

    edge = Edge(Origin(make_settings()), Metrics.off(), request_timeout=0.05)
    app = web.Application(middlewares=[edge.middleware()])
    app.router.add_get("/", wait)
    async with TestClient(TestServer(app)) as client, client.get("/") as answer:
        assert (503, "1") == (answer.status, answer.headers["Retry-After"])
    assert cancelled.is_set()


async def test_a_draining_server_ends_its_connections(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it drains, each response closes its connection."""
    app = api.client.app
    assert app is not None
    assert "Connection" not in (await api.send("GET", "/healthz")).headers

    # Other tests use this server, too.
    monkeypatch.setattr(app[EDGE], "draining", True)

    assert "close" == (await api.send("GET", "/healthz")).headers["Connection"]


async def test_nginx_is_trusted_only_on_the_socket(serve: Serve) -> None:
    """Forwarding headers and request ids count on the socket; on a port of the same process anyone could send them."""
    api = await serve(behind_nginx=True)
    headers = {"X-Forwarded-Host": "secrets.example", "X-Forwarded-Proto": "https", "X-Request-ID": "0" * 32}

    believed = await api.send("POST", "/generate", b'{"secret": "x"}', **headers)
    async with ClientSession() as tcp:
        url = api.client.make_url("/generate")
        async with tcp.post(url, data=b'{"secret": "x"}', headers=headers) as answer:
            ignored = RawAnswer(answer.status, answer.headers, await answer.read())

    assert believed.json()["url"].startswith("https://secrets.example/secrets/")
    assert "0" * 32 == believed.headers["X-Request-ID"]
    assert ignored.json()["url"].startswith(f"http://{api.client.host}:")
    assert "0" * 32 != ignored.headers["X-Request-ID"]


@pytest.mark.parametrize("host", ["evil host", "a/../b", "a@b", '"><script>', "x" * 300, "[::1", "a:b:c", ""])
async def test_an_invalid_host_makes_no_link(api: Api, host: str) -> None:
    """A link to an invalid host would mislead: only the path is returned."""
    answer = await api.send("POST", "/generate", b'{"secret": "x"}', Host=host)

    created = answer.json()
    assert (201, f"/secrets/{created['secret_key']}") == (answer.status, created["url"])


@pytest.mark.parametrize("host", ["example.org", "example.org:8443", "[::1]:8080", "127.0.0.1"])
async def test_the_link_has_the_requested_host(api: Api, host: str) -> None:
    """Without a public URL, links use the host of the request."""
    answer = await api.send("POST", "/generate", b'{"secret": "x"}', Host=host)

    assert answer.json()["url"].startswith(f"http://{host}/secrets/")


async def test_the_public_url_wins(serve: Serve) -> None:
    """If the operator sets the public URL, all links use it."""
    api = await serve(public_url="https://drop.example/box/")

    assert (await api.create())["url"].startswith("https://drop.example/box/secrets/")


async def test_a_full_queue_is_503_and_loses_nothing(serve: Serve) -> None:
    """Of more parallel creations than the queue allows, each is stored and opens, or gets 503."""
    api = await serve(batch_max=1, batch_queue=2)

    answers = await asyncio.gather(*(api.send("POST", "/generate", b'{"secret": "x"}') for _ in range(40)))

    statuses = {answer.status for answer in answers}
    assert {201, 503} == statuses
    for answer in answers:
        if answer.status == 503:
            assert "1" == answer.headers["Retry-After"]
        else:
            assert 200 == (await api.open(answer.json()["secret_key"]))[0]


async def test_every_503_has_retry_after() -> None:
    """Every 503 says when to retry."""
    assert {"Retry-After": "7"} == Unavailable(retry_after=7).headers
