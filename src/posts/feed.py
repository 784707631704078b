"""The feed's order and pages: ids of posts that sort by time, and cursors that mark where a page ends.

An id is a UUIDv7 (RFC 9562, section 5.7): 16 bytes that sort by the time of creation.

A cursor is ``id of the page's last post (16 bytes) ‖ HMAC-SHA256, first 16 bytes`` in URL-safe base64: 43 characters.
The HMAC covers the author filter of the request, so a cursor is valid only for the list that it came from.
"""

import re
import secrets
from datetime import datetime

from ..core.clock import milliseconds
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.sealing import bound_together, decode, encode

ID_BYTES = 16
_TIME_BYTES = 6
_FORM = re.compile(r"[0-9a-f]{32}")


def new_post_id(now: datetime) -> bytes:
    """Return a new id: 48 bits of milliseconds since 1970, version and variant, and 74 random bits."""
    random = int.from_bytes(secrets.token_bytes(ID_BYTES - _TIME_BYTES), "big")
    random = random & ~(0xF << 76) | (0x7 << 76)
    random = random & ~(0x3 << 62) | (0x2 << 62)
    return milliseconds(now).to_bytes(_TIME_BYTES, "big") + random.to_bytes(ID_BYTES - _TIME_BYTES, "big")


def parse_post_id(text: str) -> bytes | None:
    """Read an id from 32 hexadecimal digits in lower case; None for anything else."""
    return bytes.fromhex(text) if _FORM.fullmatch(text) else None


def write_cursor(ring: KeyRing, post_id: bytes, author_id: bytes | None) -> str:
    """Return the cursor for the page that follows a post."""
    return encode(post_id + ring.mac(Purpose.CURSOR, _bound(post_id, author_id)))


def read_cursor(ring: KeyRing, text: str, author_id: bytes | None) -> bytes | None:
    """Return the id of the post that the page follows; None unless a key of the ring has authenticated the cursor."""
    value = decode(text) or b""
    post_id, mac = value[:ID_BYTES], value[ID_BYTES:]
    return post_id if ring.has_made(mac, Purpose.CURSOR, _bound(post_id, author_id)) else None


def _bound(post_id: bytes, author_id: bytes | None) -> bytes:
    return bound_together(b"cursor", post_id, author_id or b"")
