"""Cursors: where a page of the feed has ended, for whoever asks for the next one.

A cursor is ``id of the page's last post (16 bytes) ‖ HMAC-SHA256, first 16 bytes`` in URL-safe base64: 43 characters.
The HMAC binds the author whose posts were asked for, so that a cursor is good for the question that it belongs to.
"""

from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.sealing import bound_together, decode, encode
from .post_id import ID_BYTES


def write_cursor(ring: KeyRing, post_id: bytes, author_id: bytes | None) -> str:
    """Return the cursor behind a post."""
    return encode(post_id + ring.mac(Purpose.CURSOR, _bound(post_id, author_id)))


def read_cursor(ring: KeyRing, text: str, author_id: bytes | None) -> bytes | None:
    """Return the id of the post that a cursor stands behind, or None where no key of the ring has authenticated it."""
    value = decode(text) or b""
    post_id, mac = value[:ID_BYTES], value[ID_BYTES:]
    return post_id if ring.has_made(mac, Purpose.CURSOR, _bound(post_id, author_id)) else None


def _bound(post_id: bytes, author_id: bytes | None) -> bytes:
    return bound_together(b"cursor", post_id, author_id or b"")
