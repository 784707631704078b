"""The ring of master keys, and the sub-keys derived from them for each purpose."""

import base64
import codecs
import hmac
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ...settings import Settings, SettingsError, secret_file
from ..files import create_private, locked, replacing

KEY_BYTES = 32
MAC_BYTES = 16
LOCK_SECONDS = 60.0
"""Seconds that a change of the key file waits for another change."""
KEY_FILE = "keys"
"""Name of the generated key file in the data directory."""
_EMBEDDED_DATA = Path("mongo", "db", "WiredTiger")
"""A file of the embedded MongoDB under the data directory; it exists once there is data."""
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class KeyRingError(ValueError):
    """The key ring is invalid; the message names the position of the entry, never its content."""


class Purpose(StrEnum):
    """The purpose of a sub-key. Purposes share no key material."""

    SEAL = "seal"
    FILE = "file"
    RECEIPT = "receipt"
    RECORD = "record"
    BLIND_INDEX = "blind-index"
    CURSOR = "cursor"
    ACCESS_TOKEN = "access-token"  # noqa: S105 (a purpose)
    PASSKEY_CHALLENGE = "passkey-challenge"
    SIGN_IN_CODE = "sign-in-code"
    REFRESH_TOKEN = "refresh-token"  # noqa: S105 (a purpose)
    GATHER_TOKEN = "gather-token"  # noqa: S105 (a purpose)
    SETTINGS = "settings"
    KEY_CHECK = "key-check"


class KeyRing:
    """Master keys, newest first. The newest key seals; every key opens."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        if not keys:
            raise KeyRingError("the key ring is empty: add a key as kid:base64")
        if len({key_id for key_id, _ in keys}) != len(keys):
            raise KeyRingError("two keys in the key ring have the same id")
        self._subkeys = {(purpose, key_id): _expand(key, purpose) for key_id, key in keys for purpose in Purpose}
        self.key_ids = tuple(key_id for key_id, _ in keys)

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """Parse a ring written as ``kid:base64,kid:base64``, newest first; spaces and line breaks may surround entries.

        Raises `KeyRingError` unless ids are unique and of ``A-Za-z0-9_-``, and keys have 32 bytes.
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
        """Return the 32-byte sub-key of a master key, or None if the ring does not hold that key."""
        return self._subkeys.get((purpose, key_id))

    def subkeys(self, purpose: Purpose) -> Iterator[bytes]:
        """Yield the sub-keys for a purpose, newest first."""
        return (self._subkeys[purpose, key_id] for key_id in self.key_ids)

    def mac(self, purpose: Purpose, message: bytes) -> bytes:
        """Return the first 16 bytes of a message's HMAC-SHA256 under the newest key."""
        return _mac(self._subkeys[purpose, self.newest], message)

    def mac_under(self, purpose: Purpose, key_id: str, message: bytes) -> bytes | None:
        """Return the first 16 bytes of a message's HMAC-SHA256 under a key, or None if the ring does not hold it."""
        key = self.subkey(purpose, key_id)
        return None if key is None else _mac(key, message)

    def has_made(self, mac: bytes, purpose: Purpose, message: bytes) -> bool:
        """Tell whether a key of the ring made this MAC of the message; each comparison is constant-time."""
        return any(hmac.compare_digest(mac, _mac(key, message)) for key in self.subkeys(purpose))

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(self.key_ids)})"


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, sha256)[:MAC_BYTES]


def _expand(key: bytes, purpose: Purpose) -> bytes:
    # RFC 5869, section 3.3: the master key is uniformly random already, so the extract step is not needed.
    return HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=b"sealpost/v1/" + purpose.encode()).derive(key)


def is_key_id(value: object) -> bool:
    """Tell whether a value has the form of a key id."""
    return isinstance(value, str) and _KEY_ID.fullmatch(value) is not None


def read_key_ring(settings: Settings) -> KeyRing:
    """Return the configured key ring, or the one in the data directory, which is created if it does not exist.

    Raises `SettingsError`.
    """
    try:
        if settings.keys:
            return KeyRing.parse(settings.keys.get_secret_value())
        return KeyRing.parse(_read(ensure_key_file(settings.data_dir / KEY_FILE)))
    except KeyRingError as error:
        raise SettingsError(f"SEALPOST_KEYS: {error}") from None
    except OSError as error:
        raise SettingsError(
            f"SEALPOST_DATA_DIR: the key file cannot be read or created there: {error.strerror}"
        ) from None


def find_key_file(settings: Settings) -> Path | None:
    """Return the file that the ring is read from, or None if the setting itself contains the ring."""
    return secret_file("keys") if settings.keys else settings.data_dir / KEY_FILE


def new_key() -> str:
    """Return a new master key as ``kid:base64``; its id begins with today's date."""
    key_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}"
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def ensure_key_file(path: Path) -> Path:
    """Create a key file of mode 0600 with a new key unless it exists. Several processes may call this at once.

    Raises `SettingsError` if the data directory holds a database but no key file: a new key would open nothing in it.
    """
    if not path.exists():
        if (path.parent / _EMBEDDED_DATA).exists():
            raise SettingsError(
                f"{path} is missing, but the MongoDB data next to it was encrypted with its keys. Restore the file from"
                f" your backup, or move {path.parent} away to start over."
            )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        create_private(path, f"{new_key()}\n".encode())
    return path


def put_in_front(entry: str, path: Path) -> None:
    """Insert a key at the front of a key file, which keeps its mode and owner. The file is replaced atomically.

    Raises `KeyRingError` if the file does not hold a ring, and `OSError`.
    """
    path = path.resolve()  # keep a symbolic link to the file
    # Two commands at once must not lose one of the keys.
    with locked(path.parent, patience=LOCK_SECONDS, is_directory=True):
        text = f"{entry}\n{_read(path)}"
        KeyRing.parse(text)
        with replacing(path, like=path.stat()) as file:
            file.write(text.encode())


def _read(path: Path) -> str:
    # A ring is ASCII; anything else fails to parse.
    return path.read_bytes().removeprefix(codecs.BOM_UTF8).decode("ascii", errors="replace")
