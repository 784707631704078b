"""Answers that are written as they are made, for what would not fit into memory: one JSON object a line.

An answer that ends in the middle of its way has to be told from a whole one. The chunk that ends a chunked body (RFC
9112, section 7.1) is sent after the last line only; when something fails before, the connection is cut without it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import hdrs, web

CONTENT_TYPE = "application/x-ndjson"
STALL_SECONDS = 60.0
"""How long a client may take nothing at all. A kernel wants a good part of its buffer free before it takes more."""


class BrokenOff(Exception):
    """The answer could not be written to its end; ``reason`` names what failed, and ``is_fault`` tells whose it was."""

    def __init__(self, reason: str, *, is_fault: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_fault = is_fault


class StreamedResponse(web.StreamResponse):
    """A response whose first chunk is there already, so that what fails at once is still answered with a problem."""

    def __init__(self, first: bytes, further: AsyncGenerator[bytes, None], *, status: int) -> None:
        super().__init__(status=status, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
        self._first = first
        self._further = further

    @classmethod
    async def begin(cls, chunks: AsyncGenerator[bytes, None], *, status: int) -> "StreamedResponse":
        """Make a response of chunks, none of which is empty. Raises whatever the first one raises."""
        return cls(await anext(chunks, b""), chunks, status=status)

    async def send(self, request: web.Request, *, making: float, taking: float) -> None:
        """Write all of it, no faster than the client reads.

        Each chunk must be made within ``making`` seconds, and taken within ``taking``. Raises `BrokenOff`, with the
        connection cut.
        """
        async with aclosing(self._further):
            try:
                await self.prepare(request)
                chunk = self._first if request.method != hdrs.METH_HEAD else b""
                while chunk:
                    await self._put(chunk, taking)
                    chunk = await self._next(making)
                await self.write_eof()
            except ConnectionError:
                raise BrokenOff("the client left", is_fault=False) from None
            except BrokenOff:
                if request.transport is not None:
                    request.transport.abort()
                raise

    async def _put(self, chunk: bytes, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.write(chunk)
        except TimeoutError:
            raise BrokenOff("the client did not read", is_fault=False) from None

    async def _next(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                # Where neither the database nor the client has to be waited for, the others still have their turn.
                await asyncio.sleep(0)
                return await anext(self._further, b"")
        except Exception as error:
            raise BrokenOff(type(error).__name__, is_fault=True) from error
