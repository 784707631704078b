"""Keyed blind indexes: they find a sealed value, and disclose nothing about it without the server's keys.

A document stores the index of its value under every key of the ring. A unique index over these lists keeps values
unique while a new key is rolled out: two processes, of which only one has the new key, still share the old key.
"""

import hmac
from collections.abc import Sequence
from hashlib import sha256

from .keys import KeyRing, Purpose
from .sealing import bound_together


class BlindIndex:
    """The index of one field, such as ``username``."""

    def __init__(self, ring: KeyRing, field: str) -> None:
        self._ring = ring
        self._field = field.encode()

    def of(self, value: str) -> Sequence[bytes]:
        """Return the value's index under each key of the ring, newest first: 32 bytes each."""
        message = bound_together(b"sealpost/v1/blind-index", self._field, value.encode())
        return [hmac.digest(key, message, sha256) for key in self._ring.subkeys(Purpose.BLIND_INDEX)]
