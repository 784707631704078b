"""Reading a request's body: within the route's limit, inflated no further than that, and as UTF-8."""

import codecs
import zlib
from collections.abc import Mapping
from typing import Any

from aiohttp import hdrs, web

from ..errors import Malformed, TooLarge

MAX_BODY = 1024 * 1024
"""Largest body in bytes, as sent and as inflated, of a route that does not have its own limit."""
HANDLER_ARGUMENTS: Mapping[str, Any] = {"auto_decompress": False}
"""Arguments of aiohttp's connection handler that `read_body` relies on.

By default, aiohttp inflates bodies on arrival, even the rest of a body that was refused or that no handler reads, up to
1,000 times its size.
"""
_GZIP, _ZLIB, _RAW_DEFLATE = zlib.MAX_WBITS + 16, zlib.MAX_WBITS, -zlib.MAX_WBITS
_SLICE = 64 * 1024
"""Bytes that are inflated at once."""
# RFC 1950, section 2.2: the lower half of the first byte is the method, and 8 is the only one.
_METHOD, _DEFLATE = 0x0F, 8
# UTF-32 first: its little-endian byte order mark begins with that of UTF-16.
_FOREIGN_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


async def read_body(request: web.Request, limit: int) -> bytes:
    """Return the body: at most ``limit`` bytes of UTF-8, without a byte order mark.

    Raises `TooLarge`, and `Malformed` for a body in another encoding, and what aiohttp raises for one that breaks off.
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

    Raises `Malformed` that names UTF-16 or UTF-32: RFC 8259 allows neither, and a body of plain text could be both.
    """
    if raw.startswith(codecs.BOM_UTF8):
        return raw[len(codecs.BOM_UTF8) :]
    encoding = next((name for mark, name in _FOREIGN_MARKS.items() if raw.startswith(mark)), None)
    # Without a mark: JSON and forms begin with an ASCII character, and neither has a NUL.
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
        # Some clients send deflate without the zlib header that RFC 9110, section 8.4.1.2, asks for.
        form = _ZLIB if raw[0] & _METHOD == _DEFLATE else _RAW_DEFLATE
    else:
        raise Malformed("This Content-Encoding is not supported. Send the body uncompressed, or as gzip or deflate.")
    inflating, inflated = zlib.decompressobj(form), bytearray()
    for begin in range(0, len(raw), _SLICE):
        # So little output comes from empty blocks alone, each of which costs the building of its code tables.
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
