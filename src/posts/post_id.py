"""Ids of posts: UUIDv7 (RFC 9562, section 5.7), 16 bytes that sort by the time of creation."""

import re
import secrets
from datetime import datetime

from ..core.clock import milliseconds

ID_BYTES = 16
_TIME_BYTES = 6
_FORM = re.compile(r"[0-9a-f]{32}")


def new_post_id(now: datetime) -> bytes:
    """Make an id: 48 bits of milliseconds since 1970, version and variant, and 74 random bits."""
    random = int.from_bytes(secrets.token_bytes(ID_BYTES - _TIME_BYTES), "big")
    random = random & ~(0xF << 76) | (0x7 << 76)
    random = random & ~(0x3 << 62) | (0x2 << 62)
    return milliseconds(now).to_bytes(_TIME_BYTES, "big") + random.to_bytes(ID_BYTES - _TIME_BYTES, "big")


def parse_post_id(text: str) -> bytes | None:
    """Read an id from its 32 hexadecimal digits in lower case; None for anything else."""
    return bytes.fromhex(text) if _FORM.fullmatch(text) else None
