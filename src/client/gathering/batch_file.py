"""A batch of lines in a file whose records survive a crash, or are recognized as torn.

A record is its length, a digest and its payload. The digest also covers the file's name and the record's offset, so
that stale data in a reused disk block is not mistaken for a record.

The first line of the first record is a JSON header. All other bytes are input.
"""

import json
import os
import stat
import struct
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from .batches import MOST_LINES

ENOUGH = 64 * 1024
"""Bytes at which a batch is full."""
VERSION = 1
SUFFIX = ".batch"
_DIGEST_BYTES = 16
_HEADER = struct.Struct(f">I{_DIGEST_BYTES}s")


@dataclass
class BatchFile:
    """A file of lines. ``rest`` is the incomplete line at its end; ``whole`` and ``size`` are in bytes.

    ``whole`` counts complete lines, ``size`` the file.
    """

    path: Path
    lines: int = 0
    whole: int = 0
    rest: bytes = field(default=b"", repr=False)
    size: int = 0
    handle: int = -1

    @classmethod
    def create(cls, directory: Path, number: int, *, source: str, rest: bytes) -> "BatchFile":
        """Create the file with its header, and the incomplete line ``rest`` of the file before it."""
        batch = cls(directory / f"{number:010}-{uuid.uuid4().hex}{SUFFIX}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        batch.handle = os.open(batch.path, flags, 0o600)
        try:
            batch.append(json.dumps({"version": VERSION, "source": source}).encode() + b"\n" + rest)
        except OSError:
            os.close(batch.handle)
            batch.path.unlink()
            raise
        # The header is not a line of the batch.
        batch.lines, batch.whole, batch.rest = 0, 0, rest
        return batch

    @property
    def id(self) -> str:
        """The id under which the server stores the batch."""
        return self.path.stem.partition("-")[2]

    @property
    def is_full(self) -> bool:
        """Whether to start another file; a long line gets one of its own."""
        return self.lines >= MOST_LINES or self.whole >= ENOUGH or (self.lines > 0 and len(self.rest) > ENOUGH)

    def append(self, data: bytes) -> None:
        """Append a record. If that fails, the file is as before. Raises `OSError`."""
        record = encode_record(self.path.name, self.size, data)
        left = memoryview(record)
        try:
            while left:
                left = left[os.write(self.handle, left) :]
        except OSError:
            os.ftruncate(self.handle, self.size)
            raise
        self.size += len(record)
        self.count(data)

    def count(self, data: bytes) -> None:
        """Count data that is in the file."""
        self.lines += data.count(b"\n")
        whole, end, rest = data.rpartition(b"\n")
        self.whole += len(self.rest) + len(whole) + 1 if end else 0
        self.rest = rest if end else self.rest + rest


def encode_record(name: str, offset: int, payload: bytes) -> bytes:
    """Return a record for an offset in a file of that name."""
    return _HEADER.pack(len(payload), _digest(name, offset, payload)) + payload


def decode_records(name: str, raw: bytes) -> tuple[list[bytes], int]:
    """Return the payloads before the first torn record, and the offset of that record."""
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


def read_source(payloads: list[bytes]) -> str:
    """Return the source in the header. Raises `ValueError`."""
    head = json.loads(payloads[0].partition(b"\n")[0]) if payloads else None
    if not isinstance(head, dict) or head.get("version") != VERSION:
        raise ValueError
    return str(head.get("source"))


def read_content(payloads: list[bytes]) -> bytes:
    """Return the input without the header."""
    return b"".join([payloads[0].partition(b"\n")[2], *payloads[1:]]) if payloads else b""


def source_of(descriptor: int) -> str:
    """Return an identifier of a pipe or a terminal that is unique until the machine reboots; empty for a file.

    A file that is opened again is usually read from its beginning.
    """
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode):
        return ""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {found.st_dev} {found.st_ino}"


def _digest(name: str, offset: int, payload: bytes) -> bytes:
    return blake2b(payload, digest_size=_DIGEST_BYTES, key=name.encode(), salt=offset.to_bytes(16, "big")).digest()
