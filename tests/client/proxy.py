"""A proxy as companies have them: it tunnels for CONNECT and fetches for absolute URLs, whatever the host's name is."""

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

REFUSED = b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@dataclass
class ForwardProxy:
    """A proxy and the heads of the requests that it got; ``status`` is 200, or that of its refusals."""

    port: int = 0
    credentials: str | None = None
    status: int = 200
    heads: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address, without credentials."""
        return f"http://127.0.0.1:{self.port}"

    def is_allowed(self, head: str) -> bool:
        """Tell whether a request has the credentials that are asked for."""
        if self.credentials is None:
            return True
        expected = base64.b64encode(self.credentials.encode()).decode()
        return f"proxy-authorization: basic {expected}".lower() in head.lower()


@contextlib.asynccontextmanager
async def forward_proxy(
    target: int, *, credentials: str | None = None, status: int = 200
) -> AsyncIterator[ForwardProxy]:
    """Pass everything on to a port of this machine."""
    proxy, passing = ForwardProxy(credentials=credentials, status=status), set[asyncio.Task[None]]()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        passing.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                await _pass_on(proxy, target, reader, writer)
            finally:
                writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    async with server:
        yield proxy
    await asyncio.gather(*passing)


async def _pass_on(
    proxy: ForwardProxy, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    raw = await reader.readuntil(b"\r\n\r\n")
    head = raw.decode()
    proxy.heads.append(head)
    refusal = proxy.status if proxy.is_allowed(head) else 407
    if refusal != 200:
        writer.write(REFUSED % refusal)
        await writer.drain()
        return
    there, away = await asyncio.open_connection("127.0.0.1", target)
    if head.startswith("CONNECT "):
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    else:
        away.write(raw)
    await asyncio.gather(_copy(reader, away), _copy(there, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    # Also after a reset: the other side would wait for ever.
    target.close()
