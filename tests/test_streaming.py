"""Streamed responses: recognizably complete or not, at the client's speed, and in constant memory."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientResponse, ClientSession, web
from structlog.testing import capture_logs

from src.api.edge import SECURITY_HEADERS, Edge
from src.api.origin import Origin
from src.api.routing import Route, add_routes
from src.api.schema import Answer, ProblemDetails
from src.api.streaming import JSON_LINES, PIECE_BYTES, StreamedResponse
from src.core.metrics import Metrics
from src.errors import NotFound, Unavailable
from src.settings import Settings

from .processes import PATIENCE

Chunks = Callable[[], AsyncGenerator[bytes, None]]
Streaming = Callable[..., Awaitable["Running"]]

BROKEN_OFF = "streamed response aborted"


class Line(Answer):
    """A line."""

    number: int


@dataclass(frozen=True)
class Running:
    """A server as run by the process, and a client of it."""

    runner: web.AppRunner
    port: int
    client: ClientSession


@pytest.fixture
async def streaming(
    make_settings: Callable[..., Settings], unused_tcp_port_factory: Callable[[], int]
) -> AsyncIterator[Streaming]:
    """Serve chunks at `/` through the edge; all servers end with the test."""
    async with AsyncExitStack() as stack:

        async def start(
            chunks: Chunks,
            *,
            status: int = 200,
            length: int | None = None,
            request_timeout: float = PATIENCE,
            stall_timeout: float = PATIENCE,
        ) -> Running:
            headers = {"Content-Type": JSON_LINES, **({} if length is None else {"Content-Length": str(length)})}

            async def handler(_: web.Request, __: None) -> StreamedResponse:
                return await StreamedResponse.begin(chunks(), status=status, headers=headers)

            origin = Origin(make_settings())
            edge = Edge(origin, Metrics.off(), request_timeout=request_timeout, stall_timeout=stall_timeout)
            app = web.Application(middlewares=[edge.middleware()])
            route = Route[None](method="GET", path="/", tag="test", summary="Stream", handler=handler, lines=Line)
            add_routes(app, [route])
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            port = unused_tcp_port_factory()
            await web.TCPSite(runner, "127.0.0.1", port).start()
            client = await stack.enter_async_context(ClientSession(f"http://127.0.0.1:{port}"))
            return Running(runner, port, client)

        yield start


@asynccontextmanager
async def logged() -> AsyncIterator[list[MutableMapping[str, Any]]]:
    """Collect the log up to the line of the request."""
    with capture_logs() as entries:
        yield entries
        async with asyncio.timeout(PATIENCE):
            while not any(entry["event"] == "request" for entry in entries):
                await asyncio.sleep(0.01)


async def test_a_streamed_response_is_like_any_other(streaming: Streaming) -> None:
    """It has every header and one log line, written at its end, and may take longer than the request timeout."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        for number in range(5):
            yield b'{"number":%d}\n' % number
            await asyncio.sleep(0.5)

    client = (await streaming(chunks, request_timeout=2)).client

    async with logged() as entries, client.get("/") as answer:
        body = await answer.read()

    assert b"".join(b'{"number":%d}\n' % number for number in range(5)) == body
    assert (200, "application/x-ndjson") == (answer.status, answer.headers["Content-Type"])
    assert SECURITY_HEADERS == {name: answer.headers.get(name) for name in SECURITY_HEADERS}
    assert "default-src 'none'; frame-ancestors 'none'" == answer.headers["Content-Security-Policy"]
    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
    # Other servers of this process may log as well.
    [entry] = [one for one in entries if one.get("request_id") == answer.headers["X-Request-ID"]]
    assert ("request", answer.headers["X-Request-ID"], 200) == (entry["event"], entry["request_id"], entry["status"])
    assert isinstance(entry["duration_ms"], float)
    # Five pauses of half a second; each may end a little early.
    assert entry["duration_ms"] > 2400


async def test_an_empty_stream_is_a_response(streaming: Streaming) -> None:
    """Without any line, the body is empty and complete."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        for _ in range(0):
            yield b"{}\n"

    client = (await streaming(chunks)).client

    async with client.get("/") as answer:
        assert (200, b"") == (answer.status, await answer.read())


async def test_a_head_request_gets_only_the_headers(streaming: Streaming) -> None:
    """It creates one chunk to check for errors, and stops there."""
    made: list[int] = []
    closed = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        try:
            for number in range(1000):
                made.append(number)
                yield b"{}\n"
        finally:
            closed.set()

    client = (await streaming(chunks)).client

    async with client.head("/") as answer:
        assert (200, b"") == (answer.status, await answer.read())
    assert closed.is_set()
    assert [0] == made


def parts(*chunks: bytes) -> Chunks:
    """Return a generator function of these chunks."""

    async def generator() -> AsyncGenerator[bytes, None]:
        for chunk in chunks:
            yield chunk

    return generator


@pytest.mark.parametrize("chunks", [(), (b"{}\n",), (b"x" * (3 * PIECE_BYTES + 1), b"y")])
async def test_a_response_of_known_length_announces_it(streaming: Streaming, chunks: tuple[bytes, ...]) -> None:
    """It has the status and headers of its handler and no chunked body, and the connection stays open after it."""
    body = b"".join(chunks)
    running = await streaming(parts(*chunks), status=206, length=len(body))

    async with running.client.get("/") as answer:
        assert (206, str(len(body))) == (answer.status, answer.headers["Content-Length"])
        assert "Transfer-Encoding" not in answer.headers
        assert body == await answer.read()
    async with running.client.head("/") as answer:
        assert (206, str(len(body)), b"") == (answer.status, answer.headers["Content-Length"], await answer.read())
    assert running.runner.server is not None
    assert 1 == len(running.runner.server.connections)


@pytest.mark.parametrize("chunks", [(), (b"{}",), (b"{}\n", b"{}\n"), (b"{}\n{}\n",)])
async def test_a_response_of_another_length_is_no_complete_one(streaming: Streaming, chunks: tuple[bytes, ...]) -> None:
    """With too few bytes it is truncated, and of a chunk with too many none is sent."""
    client = (await streaming(parts(*chunks), length=3)).client

    async with logged() as entries, client.get("/") as answer:
        if chunks[:1] == (b"{}\n",):
            assert b"{}\n" == await answer.read()
        else:
            assert await read_in_vain(answer) in {b"", b"{}"}

    [entry] = [entry for entry in entries if entry["event"] == BROKEN_OFF]
    assert ("the content does not have the announced length", "error") == (entry["reason"], entry["log_level"])


async def test_content_that_is_deleted_meanwhile_is_no_fault(streaming: Streaming) -> None:
    """The response is truncated like any other, but the operator has nothing to do."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"{}\n"
        raise NotFound

    client = (await streaming(chunks, length=6)).client

    async with logged() as entries, client.get("/") as answer:
        await read_in_vain(answer)

    [entry] = [entry for entry in entries if entry["event"] == BROKEN_OFF]
    assert ("NotFound", "info") == (entry["reason"], entry["log_level"])


async def test_a_failure_before_the_first_line_is_a_problem(streaming: Streaming) -> None:
    """Until the first byte is sent, the response can report the error."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        for retry_after in (7,):
            raise Unavailable(retry_after=retry_after)
        yield b"{}\n"

    client = (await streaming(chunks)).client

    async with client.get("/") as answer:
        problem = ProblemDetails.model_validate_json(await answer.read())
    assert (503, "unavailable", "7") == (answer.status, problem.code, answer.headers["Retry-After"])


async def read_in_vain(answer: ClientResponse) -> bytes:
    """Return the part of a truncated response, which the client must detect."""
    body = bytearray()

    async def read() -> None:
        async for part in answer.content.iter_any():
            body.extend(part)

    with pytest.raises(ClientPayloadError):
        await read()
    return bytes(body)


@pytest.mark.parametrize("error", [ValueError("s3cret"), Unavailable()])
async def test_a_failure_in_the_middle_is_recognizable(streaming: Streaming, error: Exception) -> None:
    """The body lacks its end, and the log has the error's type without its message."""

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"{}\n"
        raise error

    client = (await streaming(chunks)).client

    async with logged() as entries, client.get("/") as answer:
        assert answer.status == 200
        body = await read_in_vain(answer)

    assert b"{}\n".startswith(body)
    [entry] = [entry for entry in entries if entry["event"] == BROKEN_OFF]
    assert (type(error).__name__, "error") == (entry["reason"], entry["log_level"])
    assert "s3cret" not in str(entries)
    assert "test_streaming.py" in str(entry["places"])


async def test_a_chunk_that_takes_too_long_ends_the_response(streaming: Streaming) -> None:
    """The request timeout applies to each chunk, and the generator is cancelled."""
    cancelled = asyncio.Event()

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"{}\n"
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        yield b"{}\n"

    client = (await streaming(chunks, request_timeout=1)).client

    async with logged() as entries, client.get("/") as answer:
        await read_in_vain(answer)

    assert cancelled.is_set()
    assert ["TimeoutError"] == [entry["reason"] for entry in entries if entry["event"] == BROKEN_OFF]


class Endless:
    """An endless generator that counts its chunks and records when it is closed."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = asyncio.Event()

    async def __call__(self) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                self.made += 1
                yield b"x" * 65536
        finally:
            self.closed.set()


async def test_no_more_is_made_than_the_client_reads(streaming: Streaming) -> None:
    """A client that stops reading stops the generator after some buffers, is cut off later, and affects no other."""
    endless = Endless()
    port = (await streaming(endless, stall_timeout=0.5)).port
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    async with logged() as entries:
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.wait_for(endless.closed.wait(), PATIENCE)

    assert endless.made * 65536 < 32 * 1024 * 1024
    assert ["the client did not read"] == [entry["reason"] for entry in entries if entry["event"] == BROKEN_OFF]
    writer.close()
    assert reader is not None


async def test_a_server_that_stops_truncates_a_response(streaming: Streaming) -> None:
    """The client can detect that it is incomplete, and the log has a line."""
    endless = Endless()
    running = await streaming(endless)

    with capture_logs() as entries:
        async with running.client.get("/") as answer:
            await answer.content.read(1)
            stopping = asyncio.create_task(running.runner.cleanup())
            await read_in_vain(answer)
        await stopping

    assert endless.closed.is_set()
    assert ["stopped"] == [entry["reason"] for entry in entries if entry["event"] == BROKEN_OFF]


async def test_a_client_that_disconnects_ends_the_stream(streaming: Streaming) -> None:
    """The generator is closed, and other clients are served meanwhile."""
    endless = Endless()
    client = (await streaming(endless)).client

    async with logged() as entries:
        async with client.get("/") as answer:
            await answer.content.read(1)
            async with client.get("/nothing") as other:
                assert 404 == other.status
            entries.clear()
            answer.close()
        await asyncio.wait_for(endless.closed.wait(), PATIENCE)

    [entry] = [entry for entry in entries if entry["event"] == BROKEN_OFF]
    assert ("the client left", "info") == (entry["reason"], entry["log_level"])
