"""Servers that are not as they should be: each connection is answered by the next of some scripted replies."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

STALL = b"stall"
LOSE = b""
"""Take the request and close the connection."""


@dataclass
class Odd:
    """A server and the requests that have reached it, head and body."""

    url: str = ""
    requests: list[str] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The first lines of the requests."""
        return [request.partition(" HTTP/")[0] for request in self.requests]


def reply(status: int, body: str = "{}", **headers: str) -> bytes:
    """Return an HTTP answer."""
    lines = [f"HTTP/1.1 {status} Whatever", "Connection: close", f"Content-Length: {len(body.encode())}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


@contextlib.asynccontextmanager
async def odd_server(replies: Sequence[bytes]) -> AsyncIterator[Odd]:
    """Serve the replies, the last one again and again; `STALL` is no reply for as long as the client waits."""
    odd, left, answering = Odd(), list(replies), set[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((line.split(":")[1] for line in head.lower().splitlines() if "content-length" in line), "0")
        odd.requests.append(head + (await reader.readexactly(int(length))).decode())
        now = left.pop(0) if len(left) > 1 else left[0]
        if now == STALL:
            await reader.read()
        else:
            writer.write(now)
            await writer.drain()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        answering.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await answer(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    odd.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield odd
    await asyncio.gather(*answering)
