"""Clients that send or read 1 byte a second."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from bench.slo.texts import LARGEST_ECHO

from ..processes import PATIENCE

PAUSE = 1.0  # seconds
SLOW_TEXT = "s"
LEAST_BUFFER = 1  # bytes; the kernel takes its own minimum


class SlowClients:
    """100 clients: a third slow at headers, a third at bodies, the rest at reading large responses.

    They send large data at once and are slow from then on. A client that is cut off reconnects.
    """

    def __init__(self, host: str, port: int, token: str) -> None:
        self.slow: set[socket.socket] = set()
        """The connections that have come to where they send or read a byte a second."""
        self.bodies: list[bytes] = []
        """The answers to the slow bodies."""
        self._host, self._port = host, port
        self._token = token

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Keep all of them busy inside the block, and stop them after it.

        The data that a third of them sends at once, over 30 MiB, is answered before the block starts: it is a
        lot, but not slow.
        """
        ways = [self._send_headers] * 33 + [self._send_body] * 33 + [self._read] * 34
        tasks = [asyncio.create_task(self._again_and_again(way)) for way in ways]
        try:
            async with asyncio.timeout(PATIENCE):
                while len(self.slow) < len(ways):
                    await asyncio.sleep(0.05)
            yield
        finally:
            for task in tasks:
                task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes

    async def _again_and_again(self, way: Callable[[socket.socket], AsyncGenerator[None, None]]) -> None:
        while True:
            with socket.socket() as client:
                client.setblocking(False)
                # Before connecting, because it determines the TCP window.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_BUFFER)
                await asyncio.get_running_loop().sock_connect(client, (self._host, self._port))
                try:
                    with suppress(ConnectionError):
                        async for _ in way(client):
                            self.slow.add(client)
                            await asyncio.sleep(PAUSE)
                finally:
                    self.slow.discard(client)

    async def _send_headers(self, client: socket.socket) -> AsyncGenerator[None, None]:
        for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nX-Slow: " + b"x" * 60:
            await self._send(client, bytes([byte]))
            yield

    async def _send_body(self, client: socket.socket) -> AsyncGenerator[None, None]:
        body = json.dumps({"str": SLOW_TEXT}).encode()
        await self._send(client, self._head(len(body)))
        for byte in body:
            await self._send(client, bytes([byte]))
            yield
        answer = b""
        while piece := await asyncio.get_running_loop().sock_recv(client, 65_536):
            answer += piece
        self.bodies.append(answer)

    async def _read(self, client: socket.socket) -> AsyncGenerator[None, None]:
        body = json.dumps({"str": "x" * (LARGEST_ECHO - 100)}).encode()
        await self._send(client, self._head(len(body)) + body)
        while await asyncio.get_running_loop().sock_recv(client, 1):
            yield

    def _send(self, client: socket.socket, data: bytes) -> Coroutine[Any, Any, None]:
        return asyncio.get_running_loop().sock_sendall(client, data)

    def _head(self, length: int) -> bytes:
        lines = ["POST /echo HTTP/1.1", "Host: a", f"Authorization: Bearer {self._token}", "Connection: close"]
        return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()
