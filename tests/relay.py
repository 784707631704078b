"""A TCP relay that can drop all packets, as a broken network does: connections are neither refused nor closed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

CHUNK_BYTES = 1 << 16


class Relay:
    """Relays to a host and port. A connection that has lost a packet never delivers again."""

    def __init__(self, target: str) -> None:
        self._host, _, self._port = target.rpartition(":")
        self._lost: set[asyncio.StreamWriter] = set()
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}
        self._loses = False
        self.address = ""
        """The host and port to connect to."""

    def lose(self) -> None:
        """Drop everything sent from now on, in both directions."""
        self._loses = True
        self._lost.update(self._clients)

    def deliver(self) -> None:
        """Relay new connections again."""
        self._loses = False

    async def relay(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Serve a connection until both sides have closed it."""
        task = asyncio.current_task()
        assert task
        self._clients[client] = task
        if self._loses:
            self._lost.add(client)
        try:
            upstream, server = await asyncio.open_connection(self._host, int(self._port))
            try:
                await asyncio.gather(self._pump(client, reader, server), self._pump(client, upstream, client))
            finally:
                server.close()
        except (OSError, asyncio.CancelledError):
            pass  # The target is gone, or the relay is closed.
        finally:
            del self._clients[client]
            self._lost.discard(client)
            client.close()

    async def close(self) -> None:
        """Close every connection."""
        tasks = list(self._clients.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pump(
        self, client: asyncio.StreamWriter, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await source.read(CHUNK_BYTES):
                if client not in self._lost:
                    sink.write(data)
                    await sink.drain()
        except ConnectionError:
            pass
        if client not in self._lost:
            sink.close()


@asynccontextmanager
async def relay_to(target: str) -> AsyncIterator[Relay]:
    """Relay to a host and port, from a free port of 127.0.0.1."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.relay, "127.0.0.1", 0)
    relay.address = "127.0.0.1:{1}".format(*server.sockets[0].getsockname())
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
