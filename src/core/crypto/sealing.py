"""Sealing under a link: an item opens only with the key in the link, the server's key and, if set, the phrase.

The envelope is ``version (1 byte) ‖ salt (16) ‖ nonce (12) ‖ ciphertext and tag``. The data key is

    HKDF-SHA256(link key ‖ phrase key ‖ seal sub-key of the server, salt)

so each of the three is required. AES-256-GCM (NIST SP 800-38D) authenticates the item's id, the server key's id and
the caller's associated data: an envelope that was modified, moved to another item or given other terms does not open.
"""

import base64
import binascii
import secrets
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ...lenient_keys import find_key
from .keys import KEY_BYTES, KeyRing, Purpose

VERSION = b"\x01"
ID_BYTES = 16
SALT_BYTES = 16
NONCE_BYTES = 12
PADDED_TO = 64
# Bounds of the Argon2id cost, from its own minimum to what a server can afford. The settings have the same bounds.
MEMORY_KIB, PASSES = range(8, 1_048_577), range(1, 101)
_HEADER_BYTES = len(VERSION) + SALT_BYTES + NONCE_BYTES
_LINK_KEY_CHARACTERS = 43


class Unsealable(Exception):
    """The envelope does not open: wrong phrase or key, or a modified envelope. These cannot be told apart."""


@dataclass(frozen=True, repr=False)
class Link:
    """A link key, and the id under which its item is stored."""

    key: bytes

    @classmethod
    def new(cls) -> "Link":
        """Generate a link key of 32 random bytes."""
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> "Link | None":
        """Parse a link key of 43 characters of URL-safe base64, or find it in a text; None if there is none."""
        key = find_key(text, _LINK_KEY_CHARACTERS, decode)
        return cls(decode(key) or b"") if key else None

    @cached_property
    def text(self) -> str:
        """The key as written in a link."""
        return encode(self.key)

    @cached_property
    def item_id(self) -> bytes:
        """The 16-byte id of the item, which discloses nothing about the key."""
        return sha256(b"sealpost/v1/item-id" + self.key).digest()[:ID_BYTES]


@dataclass(frozen=True)
class Argon2Cost:
    """The cost of a derivation: memory in KiB, and passes over it (RFC 9106)."""

    memory_kib: int
    passes: int


def derive_phrase_key(phrase: str, salt: bytes, cost: Argon2Cost) -> bytes:
    """Derive a 32-byte key from a phrase with Argon2id; blocks for about 20 ms at the default cost.

    The phrase is normalized to NFC, so the same phrase typed on another keyboard gives the same key.
    """
    kdf = Argon2id(salt=salt, length=KEY_BYTES, iterations=cost.passes, lanes=1, memory_cost=cost.memory_kib)
    return kdf.derive(unicodedata.normalize("NFC", phrase).encode())


class Sealer:
    """Seals and opens items under links with the keys of a ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def holds(self, key_id: str) -> bool:
        """Tell whether the ring holds the key that an item was sealed with."""
        return self._ring.subkey(Purpose.SEAL, key_id) is not None

    def seal(self, plaintext: bytes, *, link: Link, terms: bytes, phrase_key: bytes = b"") -> tuple[str, bytes]:
        """Return the id of the server key, and the envelope, which authenticates the item's terms."""
        key_id = self._ring.newest
        salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        cipher = self._cipher(key_id, salt, link, phrase_key)
        ciphertext = cipher.encrypt(nonce, pad(plaintext), bound_together(link.item_id, key_id.encode(), terms))
        return key_id, b"".join((VERSION, salt, nonce, ciphertext))

    def open(self, envelope: bytes, *, key_id: str, link: Link, terms: bytes, phrase_key: bytes = b"") -> bytes:
        """Return the plaintext.

        Raises `Unsealable` for a wrong key or phrase, other terms, or a modified envelope.
        """
        if envelope[:1] != VERSION or len(envelope) < _HEADER_BYTES + PADDED_TO:
            raise Unsealable
        salt, nonce = envelope[1 : 1 + SALT_BYTES], envelope[1 + SALT_BYTES : _HEADER_BYTES]
        cipher = self._cipher(key_id, salt, link, phrase_key)
        try:
            padded = cipher.decrypt(
                nonce, envelope[_HEADER_BYTES:], bound_together(link.item_id, key_id.encode(), terms)
            )
        except InvalidTag:
            raise Unsealable from None
        return unpad(padded)

    def _cipher(self, key_id: str, salt: bytes, link: Link, phrase_key: bytes) -> AESGCM:
        server_key = self._ring.subkey(Purpose.SEAL, key_id)
        if server_key is None:
            raise Unsealable
        # The parts have fixed lengths, and the info says whether there is a phrase key, so the input is unambiguous.
        info = b"sealpost/v1/item" + (b"+phrase" if phrase_key else b"")
        kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info)
        return AESGCM(kdf.derive(link.key + phrase_key + server_key))


def encode(value: bytes) -> str:
    """Encode bytes as URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def decode(text: str) -> bytes | None:
    """Decode URL-safe base64 without padding; None for anything that `encode` does not produce."""
    try:
        value = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (binascii.Error, UnicodeEncodeError):
        return None
    return value if encode(value) == text else None


def bound_together(*parts: bytes) -> bytes:
    """Concatenate parts, each prefixed with its length, so that different lists give different bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def pad(plaintext: bytes) -> bytes:
    """Pad to a multiple of 64 bytes (ISO/IEC 7816-4), so a stolen database does not disclose how long a secret is."""
    return plaintext + b"\x80" + bytes(-(len(plaintext) + 1) % PADDED_TO)


def unpad(padded: bytes) -> bytes:
    """Remove the padding. Raises `Unsealable` if there is none."""
    plaintext, mark, _ = padded.rpartition(b"\x80")
    if not mark:
        raise Unsealable
    return plaintext
