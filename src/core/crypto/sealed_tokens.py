"""Sealed tokens: content that a client keeps for a while and only the server can read, such as a sign-in in progress.

The text is ``key id . token id . envelope``, the last two in URL-safe base64. The envelope is that of a sealed record.
The token id is 16 random bytes and the time of expiry in 8, in milliseconds since 1970. It is bound to the envelope, so
a token that was modified, or whose expiry was, does not open.
"""

import secrets
from datetime import timedelta
from typing import Generic

from ..clock import EPOCH, MILLISECOND, DatabaseClock, milliseconds
from .keys import KeyRing
from .records import ContentT, RecordSealer
from .sealing import ID_BYTES, Unsealable, decode, encode

EXPIRY_BYTES = 8
LONGEST = 4096
"""Characters of the longest text that is examined."""


class SealedTokens(Generic[ContentT]):
    """Issues and reads one kind of sealed token, which expires after ``life`` by MongoDB's clock."""

    def __init__(
        self, ring: KeyRing, kind: str, schema: type[ContentT], clock: DatabaseClock, *, life: timedelta
    ) -> None:
        self._sealer = RecordSealer(ring, kind)
        self._schema = schema
        self._clock = clock
        self._life = life

    def write(self, content: ContentT) -> str:
        """Return a new token with this content."""
        expires_at = milliseconds(self._clock.now() + self._life)
        token_id = secrets.token_bytes(ID_BYTES) + expires_at.to_bytes(EXPIRY_BYTES, "big")
        sealed = self._sealer.seal(content, token_id)
        return f"{sealed['key_id']}.{encode(token_id)}.{encode(sealed['envelope'])}"

    def read(self, text: str) -> ContentT | None:
        """Return the content of a token; None unless it is intact and has not expired."""
        key_id, *parts = text.split(".", 3) if len(text) <= LONGEST else ("",)
        decoded = [decode(part) for part in parts]
        if len(decoded) != 2:  # noqa: PLR2004 (token id and envelope)
            return None
        token_id, envelope = decoded
        if token_id is None or len(token_id) != ID_BYTES + EXPIRY_BYTES:
            return None
        try:
            content = self._sealer.open(self._schema, {"_id": token_id, "key_id": key_id, "envelope": envelope})
        except Unsealable:
            return None
        expires_at = EPOCH + int.from_bytes(token_id[ID_BYTES:], "big") * MILLISECOND
        return content if self._clock.now() < expires_at else None
