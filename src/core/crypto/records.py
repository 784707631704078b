"""Sealed records: documents that the server itself must be able to open, under the master key.

The envelope is ``version (1 byte) ‖ nonce (12) ‖ ciphertext and tag``. Each document has its own key,

    HKDF-Expand-SHA256(record sub-key of the server, kind ‖ document id)

so the number of documents does not exhaust the nonces of a key (NIST SP 800-38D, section 8.3). AES-256-GCM
authenticates the kind, the document's id and the server key's id: an envelope that was modified, or moved to another
document, does not open.
"""

import secrets
from typing import Any, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from pydantic import BaseModel, ConfigDict, ValidationError

from .keys import KEY_BYTES, KeyRing, Purpose
from .sealing import NONCE_BYTES, PADDED_TO, Unsealable, bound_together, pad, unpad

VERSION = b"\x02"
_HEADER_BYTES = len(VERSION) + NONCE_BYTES

Document = dict[str, Any]
ContentT = TypeVar("ContentT", bound="Content")


class Content(BaseModel):
    """The content of a record: JSON inside the envelope, and hidden from ``repr``."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, ser_json_bytes="base64", val_json_bytes="base64"
    )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    __str__ = __repr__


class RecordSealer:
    """Seals and opens records of one kind, such as ``user``, with the keys of a ring."""

    def __init__(self, ring: KeyRing, kind: str) -> None:
        self._ring = ring
        self._kind = kind.encode()

    def seal(self, content: Content, document_id: bytes) -> Document:
        """Return the fields ``key_id`` and ``envelope`` for a document with this content."""
        key_id = self._ring.newest
        nonce = secrets.token_bytes(NONCE_BYTES)
        plaintext = pad(content.model_dump_json().encode())
        ciphertext = self._cipher(key_id, document_id).encrypt(nonce, plaintext, self._bound(key_id, document_id))
        return {"key_id": key_id, "envelope": VERSION + nonce + ciphertext}

    def open(self, schema: type[ContentT], document: Document) -> ContentT:
        """Return the content of a document.

        Raises `Unsealable` if the ring lacks the key, or if the envelope was modified or belongs to another document.
        """
        document_id, key_id, envelope = (document.get(name) for name in ("_id", "key_id", "envelope"))
        if not (isinstance(document_id, bytes) and isinstance(key_id, str) and isinstance(envelope, bytes)):
            raise Unsealable
        if envelope[:1] != VERSION or len(envelope) < _HEADER_BYTES + PADDED_TO:
            raise Unsealable
        nonce, ciphertext = envelope[len(VERSION) : _HEADER_BYTES], envelope[_HEADER_BYTES:]
        try:
            padded = self._cipher(key_id, document_id).decrypt(nonce, ciphertext, self._bound(key_id, document_id))
            return schema.model_validate_json(unpad(padded))
        except (InvalidTag, ValidationError):
            raise Unsealable from None

    def _cipher(self, key_id: str, document_id: bytes) -> AESGCM:
        server_key = self._ring.subkey(Purpose.RECORD, key_id)
        if server_key is None:
            raise Unsealable
        info = b"sealpost/v1/record" + bound_together(self._kind, document_id)
        return AESGCM(HKDFExpand(algorithm=SHA256(), length=KEY_BYTES, info=info).derive(server_key))

    def _bound(self, key_id: str, document_id: bytes) -> bytes:
        return VERSION + bound_together(self._kind, document_id, key_id.encode())
