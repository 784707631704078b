"""Request bodies that are processed while they arrive, because they would not fit into memory.

Such a request has no overall time limit. Instead, the client must send at least 64 KiB per minute.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager

from aiohttp import hdrs, web

from ..errors import Malformed, RequestStalled
from .bodies import UNREADABLE

STALL_SECONDS = 60.0
STALL_BYTES = 64 * 1024
"""Bytes that a client must send within `STALL_SECONDS` of waiting for it."""

Storing = Callable[[int, bytes | None], AbstractAsyncContextManager[None]]
"""Allows the block to store that many bytes for a payer, see `StorageControl.storing`."""


class StreamedBody:
    """The body of a request.

    Raises `Malformed` for a body with a ``Content-Encoding``.
    """

    def __init__(self, request: web.Request, storing: Storing) -> None:
        if request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() != "identity":
            raise Malformed("This path does not support Content-Encoding. Send the body as it is.")
        self._content = request.content
        self._patience = STALL_SECONDS
        self._received = 0
        self.length = request.content_length
        """Length in bytes according to the headers; None for a chunked body."""
        self.payer: bytes | None = None
        """Blind index of the account that pays for what is stored; None for the client's network."""
        self._storing = storing

    def storing(self, size: int) -> AbstractAsyncContextManager[None]:
        """Allow the block to store a part of ``size`` bytes. Raises as `StorageControl.storing`."""
        return self._storing(size, self.payer)

    async def parts(self, size: int) -> AsyncGenerator[bytes, None]:
        """Yield the body in parts of ``size`` bytes, of which the last one may be shorter.

        If the connection fails or stalls, yields what has arrived before it raises aiohttp's error or `RequestStalled`.
        """
        part = bytearray()
        try:
            while data := await self._read():
                part += data
                while len(part) >= size:
                    yield bytes(part[:size])
                    del part[:size]
        except (*UNREADABLE, RequestStalled):
            if part:
                yield bytes(part)
            raise
        if part:
            yield bytes(part)

    async def _read(self) -> bytes:
        """Return the next bytes, or none at the end. Only the time spent waiting for the client counts."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            async with asyncio.timeout(self._patience):
                data = await self._content.readany()
        except TimeoutError:
            raise RequestStalled from None
        self._patience -= loop.time() - started
        self._received += len(data)
        if self._received >= STALL_BYTES:
            self._patience, self._received = STALL_SECONDS, 0
        return data
