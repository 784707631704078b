"""Manifests: the entries of an opened item's files, sealed for the reader who holds the opening.

With its manifest, a reader downloads files without the phrase and its derivation. The format is
``version (1 byte) ‖ salt (16) ‖ nonce (12) ‖ ciphertext and tag``. The key is

    HKDF-SHA256(link key ‖ reader's key ‖ seal sub-key of the server, salt)

so a stolen database opens no manifest, not even with the server's keys. AES-256-GCM authenticates the claim id, the
server key's id, and the ids and sizes of the files.
"""

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ..core.crypto.keys import KEY_BYTES, KeyRing, Purpose
from ..core.crypto.sealing import NONCE_BYTES, SALT_BYTES, Link, Unsealable, bound_together, pad, unpad
from .contents import FileEntries, FileEntry
from .items import Item, pack_files

VERSION = b"\x01"
_HEADER_BYTES = len(VERSION) + SALT_BYTES + NONCE_BYTES


class ManifestSealer:
    """Seals and opens manifests with the keys of a ring."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(
        self, files: tuple[FileEntry, ...], *, link: Link, reader_key: bytes, claim_id: bytes, item: Item
    ) -> bytes:
        """Return the manifest of an item's files, under the server key of the item."""
        salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
        plaintext = pad(FileEntries(files=files).model_dump_json(exclude_none=True).encode())
        cipher = self._cipher(item.key_id, salt, link, reader_key)
        ciphertext = cipher.encrypt(nonce, plaintext, _bound(claim_id, item))
        return b"".join((VERSION, salt, nonce, ciphertext))

    def open(
        self, manifest: bytes, *, link: Link, reader_key: bytes, claim_id: bytes, item: Item
    ) -> tuple[FileEntry, ...]:
        """Return the entries of an item's files.

        Raises `Unsealable` for a wrong key, a modified manifest, or other files.
        """
        if manifest[:1] != VERSION or len(manifest) < _HEADER_BYTES:
            raise Unsealable
        salt, nonce = manifest[1 : 1 + SALT_BYTES], manifest[1 + SALT_BYTES : _HEADER_BYTES]
        cipher = self._cipher(item.key_id, salt, link, reader_key)
        try:
            padded = cipher.decrypt(nonce, manifest[_HEADER_BYTES:], _bound(claim_id, item))
        except InvalidTag:
            raise Unsealable from None
        return FileEntries.model_validate_json(unpad(padded)).files

    def _cipher(self, key_id: str, salt: bytes, link: Link, reader_key: bytes) -> AESGCM:
        server_key = self._ring.subkey(Purpose.SEAL, key_id)
        if server_key is None:
            raise Unsealable
        # All parts have 32 bytes.
        kdf = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=b"sealpost/v1/manifest")
        return AESGCM(kdf.derive(link.key + reader_key + server_key))


def _bound(claim_id: bytes, item: Item) -> bytes:
    return bound_together(claim_id, item.key_id.encode(), pack_files(item.files))
