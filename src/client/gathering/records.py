"""Records in a file: what is whole is told from what a crash has torn.

A record is its length, a digest, and its bytes. The digest covers the file's name and the place in it, too, so that
what a disk had there before is not taken for a record.
"""

import struct
from hashlib import blake2b

_DIGEST_BYTES = 16
_HEADER = struct.Struct(f">I{_DIGEST_BYTES}s")


def encode_record(name: str, offset: int, payload: bytes) -> bytes:
    """Return what is to be written at an offset of a file of that name."""
    return _HEADER.pack(len(payload), _digest(name, offset, payload)) + payload


def decode_records(name: str, raw: bytes) -> tuple[list[bytes], int]:
    """Return the records up to the first one that is not whole, and where that one begins."""
    payloads, offset = [], 0
    while offset + _HEADER.size <= len(raw):
        length, digest = _HEADER.unpack_from(raw, offset)
        begin = offset + _HEADER.size
        payload = raw[begin : begin + length]
        if len(payload) < length or digest != _digest(name, offset, payload):
            break
        payloads.append(payload)
        offset = begin + length
    return payloads, offset


def _digest(name: str, offset: int, payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_DIGEST_BYTES, key=name.encode(), salt=offset.to_bytes(16, "big")).digest()
