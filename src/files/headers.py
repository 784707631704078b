"""The request headers of the tus protocol 1.0.0."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping

from ..errors import FieldError, Malformed
from .problems import ChecksumMismatch, UnsupportedChecksum, UnsupportedVersion

VERSION = "1.0.0"
RESUMABLE = "Tus-Resumable"
LENGTH, OFFSET, EXPIRES = "Upload-Length", "Upload-Offset", "Upload-Expires"
CHECKSUM, METADATA = "Upload-Checksum", "Upload-Metadata"
ALGORITHMS = ("sha1", "sha256")
_NUMBER = re.compile(r"[0-9]{1,15}")
_METADATA_KEY = re.compile(r"[!-+\--~]+")
"""Printable ASCII without spaces and commas."""


class Checksum:
    """The digest that a body must have."""

    def __init__(self, algorithm: str, digest: bytes) -> None:
        # The client chooses it to detect transmission errors.
        self._hash = hashlib.new(algorithm, usedforsecurity=False)
        self._digest = digest

    def update(self, data: bytes) -> None:
        """Add data to the digest."""
        self._hash.update(data)

    def verify(self) -> None:
        """Raise `ChecksumMismatch` unless all data together has the digest."""
        if not hmac.compare_digest(self._hash.digest(), self._digest):
            raise ChecksumMismatch


def check_version(headers: Mapping[str, str]) -> None:
    """Raise `UnsupportedVersion` for another version; without the header, the client accepts any."""
    if headers.get(RESUMABLE, VERSION) != VERSION:
        raise UnsupportedVersion(headers={"Tus-Version": VERSION})


def parse_number(headers: Mapping[str, str], name: str) -> int:
    """Return a header with a number of bytes. Raises `Malformed`."""
    text = headers.get(name)
    if text is None:
        raise Malformed(errors=(FieldError(name, "is required"),))
    if not _NUMBER.fullmatch(text):
        raise Malformed(errors=(FieldError(name, "must be a number of bytes, in up to 15 digits"),))
    return int(text)


def parse_checksum(headers: Mapping[str, str]) -> Checksum | None:
    """Return the checksum of a body, or None without the header. Raises `UnsupportedChecksum`."""
    text = headers.get(CHECKSUM)
    if text is None:
        return None
    algorithm, space, encoded = text.partition(" ")
    digest = _decoded(encoded) if space else None
    if algorithm not in ALGORITHMS or digest is None:
        raise UnsupportedChecksum
    return Checksum(algorithm, digest)


def check_metadata(headers: Mapping[str, str]) -> None:
    """Raise `Malformed` unless the metadata, if any, is a list of unique keys with optional values in base64."""
    text = headers.get(METADATA)
    # Some clients send an empty header if they have no metadata.
    if not text:
        return
    pairs = [pair.strip().partition(" ") for pair in text.split(",")]
    keys = [key for key, _, _ in pairs]
    are_keys = all(map(_METADATA_KEY.fullmatch, keys)) and len(set(keys)) == len(keys)
    if not are_keys or any(_decoded(value) is None for _, _, value in pairs):
        reason = "must be pairs of a key and a value in base64, separated by commas"
        raise Malformed(errors=(FieldError(METADATA, reason),))


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
