"""Reads request bodies as UTF-8, within the size limit of the route before and after decompression."""

import codecs
import zlib
from collections.abc import Mapping
from typing import Any

from aiohttp import ClientPayloadError, hdrs, web
from aiohttp.http_exceptions import HttpProcessingError

from ..errors import Malformed, TooLarge

MAX_BODY = 1024 * 1024
"""Default limit for a body in bytes, compressed and decompressed."""
HANDLER_ARGUMENTS: Mapping[str, Any] = {"auto_decompress": False}
"""Arguments of aiohttp's connection handler that `read_body` relies on.

By default, aiohttp inflates bodies on arrival, even the rest of a body that was refused or that no handler reads, up to
1,000 times its size.
"""
UNREADABLE = (web.RequestPayloadError, ClientPayloadError, HttpProcessingError, ConnectionError)
"""Exceptions raised for a request body that is truncated or does not match its headers."""
_GZIP, _ZLIB, _RAW_DEFLATE = zlib.MAX_WBITS + 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_SLICE = 64 * 1024
"""Bytes decompressed per step."""
# RFC 1950, section 2.2: the low 4 bits of the first byte are the method; 8 is the only one.
_METHOD, _DEFLATE = 0x0F, 8
_USUAL = frozenset((b"", b"{}", b'{"', b"{\n", b"{ "))
"""The first two bytes of nearly every body. None of them begins a body in UTF-16 or UTF-32."""
# UTF-32 first: its little-endian byte order mark begins with that of UTF-16.
_FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the decompressed body: at most ``limit`` bytes of UTF-8, without a byte order mark.

    Raises `TooLarge`, `Malformed` for another encoding, and aiohttp's errors for a truncated body.
    """
    if (request.content_length or 0) > limit:
        raise TooLarge(limit=limit)
    try:
        raw = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLarge(limit=limit) from None
    raw = _inflated(raw, request.headers.get(hdrs.CONTENT_ENCODING, ""), limit)
    if len(raw) > limit:
        raise TooLarge(limit=limit)
    return without_mark(raw)


def without_mark(raw: bytes) -> bytes:
    """Return a body without the byte order mark of UTF-8, which a parser may ignore (RFC 8259, section 8.1).

    Raises `Malformed` for UTF-16 and UTF-32, which RFC 8259 forbids.
    """
    if raw[:2] in _USUAL:
        return raw
    if raw.startswith(codecs.BOM_UTF8):
        return raw[len(codecs.BOM_UTF8) :]
    encoding = next((name for mark, name in _FOREIGN_MARKS.items() if raw.startswith(mark)), None)
    # Without a mark: JSON and forms begin with an ASCII character and contain no NUL.
    if encoding is None and b"\0" in raw[:2]:
        encoding = "UTF-32" if b"\0\0" in raw[:4] else "UTF-16"
    if encoding:
        raise Malformed(f"The body is {encoding}. Send it in UTF-8.")
    return raw


def _inflated(raw: bytes, encoding: str, limit: int) -> bytes:
    encoding = encoding.strip().lower()
    if not raw or encoding in {"", "identity"}:
        return raw
    if encoding in {"gzip", "x-gzip"}:
        form = _GZIP
    elif encoding == "deflate":
        # Some clients send deflate without the zlib header that RFC 9110, section 8.4.1.2, requires.
        form = _ZLIB if raw[0] & _METHOD == _DEFLATE else _RAW_DEFLATE
    else:
        raise Malformed("This Content-Encoding is not supported. Send the body uncompressed, or as gzip or deflate.")
    inflating, inflated = zlib.decompressobj(form), bytearray()
    for begin in range(0, len(raw), _SLICE):
        # Only empty blocks give so little output, and each costs the construction of its code tables.
        if len(inflated) < begin // 2:
            raise Malformed("The body is larger compressed than uncompressed. Send it without a Content-Encoding.")
        try:
            inflated += inflating.decompress(raw[begin : begin + _SLICE], limit + 1 - len(inflated))
        except zlib.error:
            raise Malformed("The body does not match its Content-Encoding.") from None
        if len(inflated) > limit:
            raise TooLarge(limit=limit)
    if not inflating.eof or inflating.unused_data:
        raise Malformed("The body does not match its Content-Encoding: it is truncated, or extra data follows.")
    return bytes(inflated)
