"""Receipt keys: what the sender keeps to learn an item's fate and to burn it.

A receipt key is ``version (1 byte) ‖ item id (16) ‖ created at (6) ‖ expires at (6) ‖ HMAC-SHA256, first 16 bytes``,
times in milliseconds since 1970, in URL-safe base64: 60 characters. It needs no record of its own, and it still tells
the item's times when the item is gone. It opens nothing: the item id is a hash of the link key.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.clock import EPOCH, milliseconds
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.sealing import ID_BYTES, decode, encode

VERSION = b"\x01"
TIME_BYTES = 6
_LABEL = b"receipt"
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
    return encode(body + ring.mac(Purpose.RECEIPT, _LABEL + body))


def read_receipt_key(ring: KeyRing, text: str) -> Receipt | None:
    """Return what a receipt key says, or None where no key of the ring has authenticated it."""
    value = decode(text) or b""
    body, mac = value[:_BODY_BYTES], value[_BODY_BYTES:]
    if body[:1] != VERSION or not ring.has_made(mac, Purpose.RECEIPT, _LABEL + body):
        return None
    times = body[len(VERSION) + ID_BYTES :]
    return Receipt(body[1 : 1 + ID_BYTES], _to_datetime(times[:TIME_BYTES]), _to_datetime(times[TIME_BYTES:]))


def _to_bytes(moment: datetime) -> bytes:
    return milliseconds(moment).to_bytes(TIME_BYTES, "big")


def _to_datetime(milliseconds: bytes) -> datetime:
    return EPOCH + timedelta(milliseconds=int.from_bytes(milliseconds, "big"))
