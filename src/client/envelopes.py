"""End-to-end encryption: the keys in a link, and the envelope that only they open.

The page does the same in `src/pages/static/envelope.js`; docs/security.md has the format and its test vectors.
"""

import base64
import binascii
import os
import re
import unicodedata
from dataclasses import dataclass
from hashlib import pbkdf2_hmac, sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..lenient_keys import find_candidates

VERSION = 1
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
CHECK_BYTES = 4
PADDED_TO = 64
ITERATIONS = 600_000
"""Of PBKDF2-HMAC-SHA256, from OWASP's Password Storage Cheat Sheet. Each version of the format fixes the number."""
PREFIX = "sealpost-text-1."
FILES_PREFIX = "sealpost-files-1."
_ITERATIONS_BYTES = 4
_HEADER_BYTES = 1 + _ITERATIONS_BYTES
_FRAGMENT_CHARACTERS = 92
_BASE64 = re.compile(r"[A-Za-z0-9_-]*")


class NotOpened(ValueError):
    """An envelope or link is damaged, or the keys are wrong. The exception reveals nothing about the content."""


@dataclass(frozen=True, repr=False)
class LinkKeys:
    """The keys in a link's fragment: the server finds the item by the link key, and never sees the fragment key."""

    link_key: bytes
    fragment_key: bytes


@dataclass(frozen=True, repr=False)
class TextKeys:
    """Keys derived from a fragment key and an optional password.

    The server gets the ``verifier`` instead of the password. Without a password, it is None and ``iterations`` is 0.
    """

    data_key: bytes
    verifier: str | None
    iterations: int


def new_fragment_key() -> bytes:
    """Return a random key for a single text."""
    return os.urandom(KEY_BYTES)


def derive_keys(fragment_key: bytes, password: str | None) -> TextKeys:
    """Return the keys of a text; slow with a password, because of PBKDF2."""
    if not password:
        return TextKeys(_derive(fragment_key, b"sealpost/v1/text-key"), None, 0)
    salt = _derive(fragment_key, b"sealpost/v1/text-salt")
    password_key = pbkdf2_hmac("sha256", unicodedata.normalize("NFC", password).encode(), salt, ITERATIONS, KEY_BYTES)
    both = fragment_key + password_key
    verifier = write_base64(_derive(both, b"sealpost/v1/text-verifier"))
    return TextKeys(_derive(both, b"sealpost/v1/text-key"), verifier, ITERATIONS)


def seal_text(text: str, keys: TextKeys, nonce: bytes | None = None) -> str:
    """Return the envelope of a text; give a ``nonce`` only for test vectors."""
    return PREFIX + _seal(text, keys, b"sealpost/v1/text-envelope", nonce)


def open_text(envelope: str, keys: TextKeys) -> str:
    """Return the text in an envelope. Raises `NotOpened`."""
    return _open(envelope, PREFIX, keys, b"sealpost/v1/text-envelope")


def seal_manifest(manifest: str, keys: TextKeys, nonce: bytes | None = None) -> str:
    """Return the envelope of a text and the keys of its files; give a ``nonce`` only for test vectors."""
    return FILES_PREFIX + _seal(manifest, keys, b"sealpost/v1/files-envelope", nonce)


def open_manifest(envelope: str, keys: TextKeys) -> str:
    """Return the manifest in an envelope. Raises `NotOpened`."""
    return _open(envelope, FILES_PREFIX, keys, b"sealpost/v1/files-envelope")


def _seal(text: str, keys: TextKeys, label: bytes, nonce: bytes | None) -> str:
    nonce = nonce or os.urandom(NONCE_BYTES)
    header = bytes([VERSION]) + keys.iterations.to_bytes(_ITERATIONS_BYTES)
    content = text.encode() + b"\x80"
    padded = content + bytes(-len(content) % PADDED_TO)
    return write_base64(header + nonce + AESGCM(keys.data_key).encrypt(nonce, padded, label + header))


def _open(envelope: str, prefix: str, keys: TextKeys, label: bytes) -> str:
    if not envelope.startswith(prefix):
        raise NotOpened
    raw = read_base64(envelope.removeprefix(prefix))
    header, nonce, sealed = (
        raw[:_HEADER_BYTES],
        raw[_HEADER_BYTES : _HEADER_BYTES + NONCE_BYTES],
        raw[_HEADER_BYTES + NONCE_BYTES :],
    )
    if header != bytes([VERSION]) + keys.iterations.to_bytes(_ITERATIONS_BYTES) or len(sealed) < TAG_BYTES:
        raise NotOpened
    try:
        padded = AESGCM(keys.data_key).decrypt(nonce, sealed, label + header).rstrip(b"\0")
        if not padded.endswith(b"\x80"):
            raise NotOpened
        return padded[:-1].decode()
    except (InvalidTag, UnicodeDecodeError):
        raise NotOpened from None


def write_fragment(keys: LinkKeys) -> str:
    """Return a link's fragment."""
    both = keys.link_key + keys.fragment_key
    return f"{VERSION}{write_base64(both + _check(both))}"


def read_fragment(fragment: str) -> LinkKeys:
    """Return the keys in a link's fragment. Raises `NotOpened` for a truncated or altered one."""
    raw = read_base64(fragment[1:])
    both, check = raw[: 2 * KEY_BYTES], raw[2 * KEY_BYTES :]
    if fragment[:1] != str(VERSION) or len(both) != 2 * KEY_BYTES or check != _check(both):
        raise NotOpened
    return LinkKeys(both[:KEY_BYTES], both[KEY_BYTES:])


def find_fragment(text: str) -> LinkKeys | None:
    """Return the keys of a fragment within a text, which the check makes unambiguous; None if there is none."""
    for candidate in find_candidates(text, str(VERSION), _FRAGMENT_CHARACTERS):
        try:
            return read_fragment(candidate)
        except NotOpened:
            continue
    return None


def write_base64(raw: bytes) -> str:
    """Return URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def read_base64(text: str) -> bytes:
    """Decode URL-safe base64. Raises `NotOpened` unless it is canonical."""
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        raise NotOpened from None
    if not _BASE64.fullmatch(text) or write_base64(raw) != text:
        raise NotOpened
    return raw


def _check(both: bytes) -> bytes:
    return sha256(b"sealpost/v1/text-link" + both).digest()[:CHECK_BYTES]


def _derive(key: bytes, label: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=label).derive(key)
