"""Sealing of uploaded content: chunks that open only with the upload's key and the server's key.

The data of a chunk is ``version (1 byte) ‖ nonce (12) ‖ ciphertext and tag``. The key of all chunks of an upload is

    HKDF-SHA256(upload key ‖ file sub-key of the server, no salt)

AES-256-GCM authenticates the upload's id, the server key's id, the start offset, and whether the chunk is the last: a
chunk that was modified, moved or belongs to another upload does not open, and a missing end is noticed.
"""

import secrets
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..core.crypto.keys import KEY_BYTES, KeyRing, Purpose
from ..core.crypto.sealing import ID_BYTES, NONCE_BYTES, Unsealable, bound_together

VERSION = b"\x03"
TAG_BYTES = 16
CHUNK_BYTES = 1024 * 1024
"""Maximum content of a chunk in bytes."""
OFFSET_BYTES = 8
_HEADER_BYTES = len(VERSION) + NONCE_BYTES


def derive_upload_id(upload_key: bytes) -> bytes:
    """Return the 16-byte id of an upload, which discloses nothing about its key."""
    return sha256(b"sealpost/v1/upload-id" + upload_key).digest()[:ID_BYTES]


class ChunkSealer:
    """Seals and opens the chunks of one upload with the keys of a ring."""

    def __init__(self, ring: KeyRing, upload_key: bytes) -> None:
        self._ring = ring
        self._upload_key = upload_key
        self._ciphers: dict[str, AESGCM] = {}
        self.upload_id = derive_upload_id(upload_key)

    def holds(self, key_id: str) -> bool:
        """Tell whether the ring holds the key that a chunk was sealed with."""
        return self._ring.subkey(Purpose.FILE, key_id) is not None

    def seal(self, content: bytes, *, start: int, size: int) -> tuple[str, bytes]:
        """Return the id of the server key, and the data of a chunk at ``start`` of an upload with ``size`` bytes."""
        key_id, nonce = self._ring.newest, secrets.token_bytes(NONCE_BYTES)
        bound = self._bound(key_id, start, is_last=start + len(content) == size)
        return key_id, VERSION + nonce + self._cipher(key_id).encrypt(nonce, content, bound)

    def open(self, data: bytes, *, key_id: str, start: int, size: int) -> bytes:
        """Return the content of a chunk. Raises `Unsealable` for a wrong key or place, or modified data."""
        length = len(data) - _HEADER_BYTES - TAG_BYTES
        if data[:1] != VERSION or length <= 0 or not self.holds(key_id):
            raise Unsealable
        bound = self._bound(key_id, start, is_last=start + length == size)
        try:
            return self._cipher(key_id).decrypt(data[len(VERSION) : _HEADER_BYTES], data[_HEADER_BYTES:], bound)
        except InvalidTag:
            raise Unsealable from None

    def _cipher(self, key_id: str) -> AESGCM:
        if key_id not in self._ciphers:
            server_key = self._ring.subkey(Purpose.FILE, key_id)
            assert server_key is not None  # noqa: S101 (callers have checked)
            kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"sealpost/v1/chunk")
            self._ciphers[key_id] = AESGCM(kdf.derive(self._upload_key + server_key))
        return self._ciphers[key_id]

    def _bound(self, key_id: str, start: int, *, is_last: bool) -> bytes:
        place = start.to_bytes(OFFSET_BYTES, "big") + bytes([is_last])
        return VERSION + bound_together(self.upload_id, key_id.encode(), place)
