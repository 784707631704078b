"""A proxy for tests of files: it records where transfers start, cuts or stops them, and alters files."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestServer

from ..processes import PATIENCE

STEP = 65536
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "date", "server"})


class Meddler:
    """Stands before a server.

    ``uploads`` and ``downloads`` are bytes after which the next transfers are cut. With ``stalls``, the proxy sets
    ``stalled`` and waits until ``released`` is set, before it cuts. ``refusals`` are statuses of the next
    transfers, ``head_refusals`` those of HEAD.
    """

    def __init__(self, server: str, session: ClientSession) -> None:
        self.url = ""
        self.uploads: list[int] = []
        self.downloads: list[int] = []
        self.refusals: list[int] = []
        self.head_refusals: list[int] = []
        self.alter: Callable[[bytes], bytes] | None = None
        self.stalls, self.stalled, self.released = False, asyncio.Event(), asyncio.Event()
        self.requests: list[tuple[str, str, str]] = []
        self._server, self._session = server, session
        self._offset_before_cut: int | None = None

    def offsets(self, method: str) -> list[str]:
        """Return where the transfers with PATCH or GET started: offsets or ranges."""
        return [start for sent, path, start in self.requests if sent == method and "/files/" in path]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Pass a request on."""
        start = request.headers.get("Upload-Offset") or request.headers.get("Range") or ""
        self.requests.append((request.method, request.path, start))
        if request.method in ("PATCH", "GET") and "/files/" in request.path and self.refusals:
            problem = {"code": "refused", "detail": "refused by the test"}
            return web.json_response(problem, status=self.refusals.pop(0))
        if request.method == "HEAD" and self.head_refusals:
            return web.Response(status=self.head_refusals.pop(0))
        if request.method == "HEAD":
            await self._wait_for_progress(request)
        data = self._body(request) if request.body_exists else None
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP}
        with suppress(ClientError):
            async with self._session.request(
                request.method, self._server + request.raw_path, data=data, headers=headers
            ) as response:
                return await self._pass_on(request, response)
        return web.Response()

    async def _body(self, request: web.Request) -> AsyncIterator[bytes]:
        limit = self.uploads.pop(0) if request.method == "PATCH" and self.uploads else None
        sent = 0
        async for chunk in request.content.iter_chunked(STEP):
            if limit is not None and sent + len(chunk) > limit:
                self._offset_before_cut = int(request.headers["Upload-Offset"])
                await self._stop(request)
                raise ConnectionResetError
            sent += len(chunk)
            yield chunk

    async def _pass_on(self, request: web.Request, response: ClientResponse) -> web.StreamResponse:
        content = await response.read()
        headers = {name: value for name, value in response.headers.items() if name.lower() not in _HOP}
        if request.method != "GET" or "/files/" not in request.path or response.status not in (200, 206):
            return web.Response(status=response.status, headers=headers, body=content or None)
        if self.alter:
            content = self.alter(content)
            headers["Content-Length"] = str(len(content))
        limit = self.downloads.pop(0) if self.downloads else len(content)
        passed = web.StreamResponse(status=response.status, headers=headers)
        await passed.prepare(request)
        for place in range(0, min(limit, len(content)), STEP):
            await passed.write(content[place : min(place + STEP, limit)])
        if limit < len(content):
            await self._stop(request)
        return passed

    async def _stop(self, request: web.Request) -> None:
        if self.stalls:
            self.stalled.set()
            await self.released.wait()
        if request.transport is not None:
            request.transport.abort()

    async def _wait_for_progress(self, request: web.Request) -> None:
        """Wait until the server has stored what was sent before a cut."""
        before, self._offset_before_cut = self._offset_before_cut, None
        if before is None:
            return
        async with asyncio.timeout(PATIENCE):
            while True:
                async with self._session.head(self._server + request.raw_path) as response:
                    if int(response.headers.get("Upload-Offset", before + 1)) > before:
                        return


@asynccontextmanager
async def meddler(url: str) -> AsyncIterator[Meddler]:
    """Stand before a server."""
    async with ClientSession(auto_decompress=False, timeout=ClientTimeout(total=None)) as session:
        found = Meddler(url, session)
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{path:.*}", found.answer)
        server = TestServer(app)
        await server.start_server()
        found.url = str(server.make_url("")).rstrip("/")
        try:
            yield found
        finally:
            await server.close()
