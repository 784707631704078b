"""Streamed responses, for content that would not fit into memory.

Clients must be able to detect a truncated response. One of unknown length has a chunked body (RFC 9112, section 7.1),
whose last chunk is sent only after the content. Otherwise, Content-Length says how much to expect. After a failure, the
connection is aborted before the end.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import hdrs, web

from ..errors import NotFound

JSON_LINES = "application/x-ndjson"
"""Media type of a response with one JSON object a line."""
STALL_SECONDS = 60.0
"""Timeout for a client that does not read. A kernel accepts more data only once much of its buffer is free."""
PIECE_BYTES = 65_536
"""Bytes that a client must read within the timeout: few enough for a slow connection."""


class BrokenOff(Exception):
    """A streamed response failed; ``reason`` names the cause, ``is_fault`` is True if the service caused it."""

    def __init__(self, reason: str, *, is_fault: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_fault = is_fault


class StreamedResponse(web.StreamResponse):
    """A response whose first chunk already exists, so that an immediate failure still becomes a problem response."""

    def __init__(
        self, first: bytes, further: AsyncGenerator[bytes, None], *, status: int, headers: Mapping[str, str]
    ) -> None:
        super().__init__(status=status, headers=headers)
        self._first = first
        self._further = further

    @classmethod
    async def begin(
        cls, chunks: AsyncGenerator[bytes, None], *, headers: Mapping[str, str], status: int = 200
    ) -> "StreamedResponse":
        """Return a response of non-empty chunks. Raises the exceptions of the first chunk.

        If ``headers`` include Content-Length, chunks of another total length count as a failure.
        """
        return cls(await anext(chunks, b""), chunks, status=status, headers=headers)

    async def send(self, request: web.Request, *, making: float, taking: float) -> None:
        """Send all chunks, no faster than the client reads.

        Each chunk must be produced within ``making`` seconds, and every `PIECE_BYTES` of it sent within ``taking``
        seconds. Raises `BrokenOff` after aborting the connection.
        """
        async with aclosing(self._further):
            try:
                await self.prepare(request)
                if request.method != hdrs.METH_HEAD:
                    await self._send_chunks(making, taking)
                await self.write_eof()
            except ConnectionError:
                raise BrokenOff("the client left", is_fault=False) from None
            except BrokenOff:
                if request.transport is not None:
                    request.transport.abort()
                raise

    async def _send_chunks(self, making: float, taking: float) -> None:
        left = self.content_length
        chunk, self._first = self._first, b""
        while chunk:
            if left is not None:
                left -= len(chunk)
                if left < 0:
                    break
            await self._put(chunk, taking)
            chunk = await self._next(making)
        if left:
            raise BrokenOff("the content does not have the announced length", is_fault=True)

    async def _put(self, chunk: bytes, seconds: float) -> None:
        content = memoryview(chunk)
        try:
            for start in range(0, len(content), PIECE_BYTES):
                async with asyncio.timeout(seconds):
                    await self.write(content[start : start + PIECE_BYTES])
        except TimeoutError:
            raise BrokenOff("the client did not read", is_fault=False) from None

    async def _next(self, seconds: float) -> bytes:
        try:
            async with asyncio.timeout(seconds):
                # Yield to other requests even if neither the database nor the client blocks.
                await asyncio.sleep(0)
                return await anext(self._further, b"")
        except Exception as error:
            # It is not an error of the server if the content was deleted meanwhile.
            raise BrokenOff(type(error).__name__, is_fault=not isinstance(error, NotFound)) from error
