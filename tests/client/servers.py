"""Servers that are not as they should be: each connection is answered by the next of some scripted replies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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


@asynccontextmanager
async def odd_server(replies: Sequence[bytes], *, connected: Callable[[], None] = lambda: None) -> AsyncIterator[Odd]:
    """Serve the replies, the last one again and again."""
    odd, left = Odd(), list(replies)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected()
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next((line.split(":")[1] for line in head.lower().splitlines() if "content-length" in line), "0")
        odd.requests.append(head + (await reader.readexactly(int(length))).decode())
        writer.write(left.pop(0) if len(left) > 1 else left[0])
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    odd.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield odd
