"""A server that is wrong: it passes every request on to a real one, and lies about what a test says."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer


@dataclass(frozen=True)
class Told:
    """A status with a JSON body; status 0 closes the connection in place of an answer."""

    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


Forward = Callable[[], Awaitable[Told]]
Lie = Callable[[str, Forward], Awaitable[Told]]
"""Takes method and path, and what asks the real server; returns what is told."""

LOST = Told(0)


def problem(status: int, code: str, **headers: str) -> Told:
    """Return a refusal in the shape of the API."""
    return Told(
        status, {"code": code, "detail": "No."}, {name.replace("_", "-"): value for name, value in headers.items()}
    )


@asynccontextmanager
async def liar(url: str, lie: Lie) -> AsyncIterator[str]:
    """Serve lies about the server at a URL, and yield the address."""
    async with ClientSession() as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            data = await request.read()
            kept = {name: value for name, value in request.headers.items() if name == "Authorization"}

            async def forward() -> Told:
                async with session.request(
                    request.method, url + request.raw_path, data=data or None, headers=kept
                ) as response:
                    return Told(
                        response.status, await response.json(content_type=None) if response.status != 204 else None
                    )

            told = await lie(f"{request.method} {request.path}", forward)
            if told.status == 0:
                assert request.transport is not None
                request.transport.close()
                return web.Response()
            if told.body is None:
                return web.Response(status=told.status, headers=told.headers)
            return web.json_response(told.body, status=told.status, headers=told.headers)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        server = TestServer(app)
        await server.start_server()
        try:
            yield str(server.make_url("")).rstrip("/")
        finally:
            await server.close()
