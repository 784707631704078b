"""Receipt keys: what the sender keeps to learn an item's fate and to burn it.

A receipt key is ``version (1 byte) ‖ item id (16) ‖ created at (6) ‖ expires at (6) ‖ HMAC-SHA256, first 16 bytes``,
times in milliseconds since 1970, in URL-safe base64: 60 characters. It needs no record of its own, and it still tells
the item's times when the item is gone. It opens nothing: the item id is a hash of the link key.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from ..core.clock import EPOCH, milliseconds
from ..core.keys import KeyRing, Purpose
from ..core.sealing import ID_BYTES, decode, encode

VERSION = b"\x01"
TIME_BYTES = 6
MAC_BYTES = 16
_BODY_BYTES = len(VERSION) + ID_BYTES + 2 * TIME_BYTES


@dataclass(frozen=True)
class Receipt:
    """What a receipt key says."""

    item_id: bytes
    created_at: datetime
    expires_at: datetime


def write_receipt_key(ring: KeyRing, receipt: Receipt) -> str:
    """Return the 60 characters that stand for a receipt, authenticated with the newest key."""
    times = b"".join(_to_bytes(moment) for moment in (receipt.created_at, receipt.expires_at))
    body = VERSION + receipt.item_id + times
    return encode(body + _mac(next(ring.subkeys(Purpose.RECEIPT)), body))


def read_receipt_key(ring: KeyRing, text: str) -> Receipt | None:
    """Return what a receipt key says, or None where no key of the ring has authenticated it."""
    value = decode(text) or b""
    body, mac = value[:_BODY_BYTES], value[_BODY_BYTES:]
    if body[:1] != VERSION or len(mac) != MAC_BYTES:
        return None
    if not any(hmac.compare_digest(mac, _mac(key, body)) for key in ring.subkeys(Purpose.RECEIPT)):
        return None
    times = body[len(VERSION) + ID_BYTES :]
    return Receipt(body[1 : 1 + ID_BYTES], _to_datetime(times[:TIME_BYTES]), _to_datetime(times[TIME_BYTES:]))


def _mac(key: bytes, body: bytes) -> bytes:
    return hmac.digest(key, b"receipt" + body, sha256)[:MAC_BYTES]


def _to_bytes(moment: datetime) -> bytes:
    return milliseconds(moment).to_bytes(TIME_BYTES, "big")


def _to_datetime(milliseconds: bytes) -> datetime:
    return EPOCH + timedelta(milliseconds=int.from_bytes(milliseconds, "big"))
