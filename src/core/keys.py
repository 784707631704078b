"""The master key ring, and the sub-keys that are derived from it for each purpose."""

import base64
import contextlib
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class KeyRingError(ValueError):
    """The key ring cannot be read; the message names the entry by its position, never its content."""


class Purpose(StrEnum):
    """What a sub-key is for; no two purposes share key material."""

    SEAL = "seal"
    RECEIPT = "receipt"
    RECORD = "record"
    BLIND_INDEX = "blind-index"
    ACCESS_TOKEN = "access-token"  # noqa: S105 (a purpose)


class KeyRing:
    """Master keys, newest first: the first one seals, all of them open."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys:
            raise KeyRingError("the key ring is empty: add a key as kid:base64")
        if len({key_id for key_id, _ in keys}) != len(keys):
            raise KeyRingError("two keys of the ring have the same id")
        self._subkeys = {(purpose, key_id): _expand(key, purpose) for key_id, key in keys for purpose in Purpose}
        self.key_ids = tuple(key_id for key_id, _ in keys)

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Read a ring written as ``kid:base64,kid:base64``, newest first, spaces and line breaks allowed between.

        Raises `KeyRingError` for anything else than unique ids of ``A-Za-z0-9_-`` and 32-byte keys.
        """
        keys = []
        for position, entry in enumerate(filter(None, re.split(r"[,\s]+", text)), start=1):
            key_id, separator, encoded = entry.partition(":")
            if not separator or not _KEY_ID.fullmatch(key_id):
                raise KeyRingError(f"entry {position} of the key ring is not of the form kid:base64")
            try:
                key = base64.b64decode(encoded, validate=True)
            except ValueError:
                raise KeyRingError(f"entry {position} of the key ring is not base64") from None
            if len(key) != KEY_BYTES:
                raise KeyRingError(f"entry {position} of the key ring is not {KEY_BYTES} bytes long")
            keys.append((key_id, key))
        return cls(keys)

    @property
    def newest(self) -> str:
        """Id of the key that seals."""
        return self.key_ids[0]

    def subkey(self, purpose: Purpose, key_id: str) -> bytes | None:
        """Return the 32-byte sub-key of one master key, or None where the ring does not hold that key."""
        return self._subkeys.get((purpose, key_id))

    def subkeys(self, purpose: Purpose) -> Iterator[bytes]:
        """Yield the sub-keys for a purpose, newest first."""
        return (self._subkeys[purpose, key_id] for key_id in self.key_ids)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.key_ids)})"


def _expand(key: bytes, purpose: Purpose) -> bytes:
    # RFC 5869, section 3.3: the master key is uniformly random already, so the extract step is not needed.
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=b"sealpost/v1/" + purpose.encode()).derive(key)


def new_key() -> str:
    """Make a fresh master key in the ring's written form, its id led by today's date."""
    key_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}"
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def ensure_key_file(path: Path) -> Path:
    """Make a key file of mode 0600 with one fresh key where there is none; several processes may call this at once."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(new_key() + "\n")
                file.flush()
                os.fsync(file.fileno())
            # A link appears whole or not at all, and the first of several processes wins.
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
        finally:
            draft.unlink()
        _sync_directory(path.parent)
    return path


def _sync_directory(path: Path) -> None:
    # Without this a power cut may forget the file's name, and with it every secret sealed since.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
