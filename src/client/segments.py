"""Encryption of a file's content in segments, as in the STREAM construction of age.

The page does the same in `src/pages/static/segments.js`; docs/security.md has the format and its test vectors.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from .envelopes import TAG_BYTES, NotOpened

SEGMENT_BYTES = 64 * 1024
SEALED_SEGMENT_BYTES = SEGMENT_BYTES + TAG_BYTES
_INDEX_BYTES = 11


class SegmentCipher:
    """Seals or opens the segments of one file, whose content has ``size`` bytes.

    A key may only ever seal one content: the nonce of a segment is its position.
    """

    def __init__(self, key: bytes, size: int) -> None:
        self._cipher = AESGCM(key)
        self.size = size
        self.segments = count_segments(size)

    def seal(self, index: int, content: bytes) -> bytes:
        """Return a sealed segment."""
        return self._cipher.encrypt(self._nonce(index), content, None)

    def open(self, index: int, sealed: bytes) -> bytes:
        """Return the content of a segment. Raises `NotOpened` if it is altered, or was sealed for another position."""
        try:
            content = self._cipher.decrypt(self._nonce(index), sealed, None)
        except (InvalidTag, ValueError):
            raise NotOpened from None
        if len(content) != self.content_bytes(index):
            raise NotOpened
        return content

    def content_bytes(self, index: int) -> int:
        """Return the size of a segment's content; all but the last are full."""
        return min(SEGMENT_BYTES, self.size - index * SEGMENT_BYTES)

    def _nonce(self, index: int) -> bytes:
        return index.to_bytes(_INDEX_BYTES) + bytes([index == self.segments - 1])


def count_segments(size: int) -> int:
    """Return the number of segments of a content; an empty one has one empty segment."""
    return max(1, -(-size // SEGMENT_BYTES))


def sealed_size(size: int) -> int:
    """Return the size of a content when it is sealed, in bytes."""
    return size + TAG_BYTES * count_segments(size)


def largest_content(size: int) -> int:
    """Return the size of the largest content that has at most ``size`` bytes when it is sealed."""
    full, rest = divmod(size, SEALED_SEGMENT_BYTES)
    return full * SEGMENT_BYTES + max(0, rest - TAG_BYTES)
