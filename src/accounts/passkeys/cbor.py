"""Checks CBOR from clients before the decoder reads it.

CBOR (RFC 8949) has tags that the decoder resolves: shared references, from which 300 bytes can become gigabytes when
they are encoded again, regular expressions, sets. Authenticators use none of them, and neither indefinite lengths nor
deep nesting (CTAP 2.1, section 8).
"""

from enum import IntEnum

MOST_NESTED = 8
_ONE_BYTE, _EIGHT_BYTES = 24, 27
"""Values of the low 5 bits of an item's first byte for which the item's value is in the 1 to 8 bytes after it."""


class _Type(IntEnum):
    BYTES = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5
    TAG = 6


class NotPlain(ValueError):
    """The bytes are not CBOR, or use a part of it that authenticators do not use."""


def check_items(data: bytes) -> None:
    """Check that the bytes are a sequence of plain CBOR items. Raises `NotPlain`."""
    position = 0
    while position < len(data):
        position = _end_of_item(data, position, 0)


def _end_of_item(data: bytes, position: int, depth: int) -> int:
    if depth > MOST_NESTED or position >= len(data):
        raise NotPlain
    kind, short = divmod(data[position], 32)
    position += 1
    value = short
    if short > _EIGHT_BYTES or kind == _Type.TAG:
        raise NotPlain
    if short >= _ONE_BYTE:
        size = 1 << (short - _ONE_BYTE)
        value = int.from_bytes(data[position : position + size], "big")
        position += size
    if kind in {_Type.BYTES, _Type.TEXT}:
        position += value
    elif kind in {_Type.ARRAY, _Type.MAP}:
        count = value * (2 if kind == _Type.MAP else 1)
        if count > len(data) - position:
            raise NotPlain
        for _ in range(count):
            position = _end_of_item(data, position, depth + 1)
    if position > len(data):
        raise NotPlain
    return position
