"""What stands between a client and a server, and lets through what a test wants it to."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from urllib.parse import urlsplit

BUFFER = 65536


class Gate:
    """A port that leads to a server; while it is closed, connections to it are cut.

    While ``loses`` is above zero, that many answers to requests that hold the text are lost: the server has them.
    """

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_open = True
        self.loses = 0
        self.text = b""
        self.lost = 0
        self.url = ""

    def close(self) -> None:
        """Cut what is connected, and let nothing through."""
        self._is_open = False
        for writer in self._writers:
            writer.transport.abort()

    def open(self) -> None:
        """Let requests through again."""
        self._is_open = True

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry what comes on a connection."""
        self._writers.add(writer)
        try:
            if not self._is_open:
                return
            inner, outer = await asyncio.open_connection(self._target.hostname, self._target.port)
            self._writers.add(outer)
            state = {"holds": False}

            def asked(data: bytes) -> bool:
                state["holds"] = self.text in data if b"POST " in data[:5] else state["holds"] or self.text in data
                return True

            def answered(_: bytes) -> bool:
                if not (self.loses and state["holds"]):
                    return True
                self.loses -= 1
                self.lost += 1
                return False

            await asyncio.gather(_carry(reader, outer, asked), _carry(inner, writer, answered))
        finally:
            for one in (writer, *([outer] if "outer" in locals() else [])):
                self._writers.discard(one)
                one.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passes: Callable[[bytes], bool]) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(BUFFER):
            if not passes(data):
                break
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def gate_to(url: str) -> AsyncIterator[Gate]:
    """Stand before a server."""
    gate = Gate(url)
    server = await asyncio.start_server(gate.connected, "127.0.0.1", 0)
    gate.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield gate
        gate.close()
