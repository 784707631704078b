"""Refresh tokens: each is good for one refresh, and using one twice ends its session.

A token is ``session id (16 bytes) ‖ family (16) ‖ secret (32)`` in URL-safe base64 after the prefix ``sr_``. All tokens
of one session share the family, so that one that was used before is told from one that never was: only the former, of
which there must be two holders, ends the session. (Rotation and reuse detection as in RFC 9700, section 4.14.2.)
"""

import secrets
from dataclasses import dataclass
from hashlib import sha256

from ..core.crypto.sealing import decode, encode

PREFIX = "sr_"
ID_BYTES, FAMILY_BYTES, SECRET_BYTES = 16, 16, 32


@dataclass(frozen=True, repr=False)
class RefreshToken:
    """A refresh token; what is stored of it are hashes."""

    session_id: bytes
    family: bytes
    secret: bytes

    @classmethod
    def new(cls) -> "RefreshToken":
        """Make the first token of a new session."""
        return cls(secrets.token_bytes(ID_BYTES), secrets.token_bytes(FAMILY_BYTES), secrets.token_bytes(SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "RefreshToken | None":
        """Read a token; None for anything that `text` would not have written."""
        value = decode(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None
        if value is None or len(value) != ID_BYTES + FAMILY_BYTES + SECRET_BYTES:
            return None
        return cls(value[:ID_BYTES], value[ID_BYTES : ID_BYTES + FAMILY_BYTES], value[ID_BYTES + FAMILY_BYTES :])

    def next(self) -> "RefreshToken":
        """Make the token that takes this one's place."""
        return RefreshToken(self.session_id, self.family, secrets.token_bytes(SECRET_BYTES))

    @property
    def text(self) -> str:
        """The token as a client keeps it: 89 characters."""
        return PREFIX + encode(self.session_id + self.family + self.secret)

    @property
    def family_hash(self) -> bytes:
        """SHA-256 that tells whether a token is of its session at all."""
        return sha256(b"sealpost/v1/refresh-family" + self.family).digest()

    @property
    def secret_hash(self) -> bytes:
        """SHA-256 that tells whether a token is the session's present one."""
        return sha256(b"sealpost/v1/refresh-secret" + self.secret).digest()
