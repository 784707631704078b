"""Whether a file of counts is whole: prometheus-client believes what it reads, and a crash of the host may spoil it.

A file begins with the number of its bytes in use, in four bytes, and four more. Then each entry has the length of its
key, in four bytes, the key as JSON, padded so that what follows is aligned to eight bytes, and two doubles: the value
and a time.
"""

import json
import math
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

_HEADER = struct.Struct("i4x")
_LENGTH = struct.Struct("i")
_VALUE = struct.Struct("dd")
_ALIGNMENT = 8


class _Damaged(Exception):
    """What is read is not what was written."""


def is_sound(path: Path) -> bool:
    """Tell whether all that is in use of a file can be read, and each value is a count."""
    may_fall = path.name.startswith("gauge")
    try:
        for key, value in _entries(_used_part(path)):
            if not (_is_key(key) and math.isfinite(value) and (value >= 0 or may_fall)):
                return False
    except (OSError, struct.error, _Damaged):
        return False
    return True


def _used_part(path: Path) -> bytes:
    with path.open("rb") as file:
        (used,) = _HEADER.unpack(file.read(_HEADER.size))
        if used == 0:
            return b""  # it has just been made
        wanted = used - _HEADER.size
        if wanted < 0 or len(data := file.read(wanted)) != wanted:
            raise _Damaged
    return data


def _entries(data: bytes) -> Iterator[tuple[bytes, float]]:
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        if length <= 0:
            raise _Damaged
        start = position + _LENGTH.size
        position = start + length + _ALIGNMENT - (length + _LENGTH.size) % _ALIGNMENT
        value, _ = _VALUE.unpack_from(data, position)
        position += _VALUE.size
        yield data[start : start + length], value


@lru_cache(maxsize=10_000)
def _is_key(encoded: bytes) -> bool:
    """Tell whether this is the JSON of a metric's name, a sample's name, labels and a help text."""
    try:
        metric, sample, labels, meaning = json.loads(encoded)
        float(labels.get("le", 0))
        return all(isinstance(text, str) for text in (metric, sample, meaning, *labels.values()))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
