"""Streamed responses, for content that would not fit into memory: one JSON object a line.

Clients must be able to detect a truncated response. The last chunk of a chunked body (RFC 9112, section 7.1) is sent
only after the last line; after a failure, the connection is aborted without it.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiohttp import hdrs, web

CONTENT_TYPE = "application/x-ndjson"
STALL_SECONDS = 60.0
"""Timeout for a client that does not read. A kernel accepts more data only once much of its buffer is free."""


class BrokenOff(Exception):
    """A streamed response failed; ``reason`` names the cause, ``is_fault`` is True if the service caused it."""

    def __init__(self, reason: str, *, is_fault: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_fault = is_fault


class StreamedResponse(web.StreamResponse):
    """A response whose first chunk already exists, so that an immediate failure still becomes a problem response."""

    def __init__(self, first: bytes, further: AsyncGenerator[bytes, None], *, status: int) -> None:
        super().__init__(status=status, headers={hdrs.CONTENT_TYPE: CONTENT_TYPE})
        self._first = first
        self._further = further

    @classmethod
    async def begin(cls, chunks: AsyncGenerator[bytes, None], *, status: int) -> "StreamedResponse":
        """Return a response of non-empty chunks. Raises the exceptions of the first chunk."""
        return cls(await anext(chunks, b""), chunks, status=status)

    async def send(self, request: web.Request, *, making: float, taking: float) -> None:
        """Send all chunks, no faster than the client reads.

        Each chunk must be produced within ``making`` seconds and sent within ``taking`` seconds. Raises `BrokenOff`
        after aborting the connection.
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
                # Yield to other requests even if neither the database nor the client blocks.
                await asyncio.sleep(0)
                return await anext(self._further, b"")
        except Exception as error:
            raise BrokenOff(type(error).__name__, is_fault=True) from error
