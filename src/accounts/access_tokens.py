"""Access tokens and refresh tokens, the pair that a session gives its client.

An access token is signed, lives for ten minutes and is accepted without a query. `sessions.EndedSessions` revokes one
early.

A refresh token is good for one refresh, and using it twice ends its session. It is ``session id (16 bytes) ‖ family
(16) ‖ secret (32)`` in URL-safe base64 after the prefix ``sr_``. All tokens of a session share the family, which tells
a used token from an invented one. Only a used token, which must have two holders, ends the session. (Rotation and
reuse detection as in RFC 9700, section 4.14.2.)

In the cookie of a browser, the next token is derived from the current one. A page that is loaded again before it has
got the response, or a second tab, thus gets the same next token again; see `sessions.GRACE`.
"""

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.sealing import decode, encode
from ..core.crypto.signed_tokens import REGISTERED, SignedTokens

AUDIENCE = "sealpost"
LIFE = timedelta(minutes=10)
SESSION_ID_BYTES, FAMILY_BYTES, SECRET_BYTES = 16, 16, 32
IDS = {"sub": 16, "sid": SESSION_ID_BYTES}
REQUIRED = [*REGISTERED, *IDS]
PREFIX = "sr_"


@dataclass(frozen=True)
class AccessClaims:
    """The user and the session that a token belongs to."""

    user_id: bytes
    session_id: bytes


class AccessTokens:
    """Writes and reads access tokens."""

    def __init__(self, ring: KeyRing, clock: DatabaseClock | None = None) -> None:
        self._tokens = SignedTokens(ring, Purpose.ACCESS_TOKEN, audience=AUDIENCE, ids=IDS, clock=clock)

    def write(self, claims: AccessClaims, *, issued_at: datetime, expires_at: datetime) -> str:
        """Return a token, signed with the newest key."""
        ids = {"sub": claims.user_id, "sid": claims.session_id}
        return self._tokens.write(ids, issued_at=issued_at, expires_at=expires_at)

    def read(self, token: str) -> AccessClaims | None:
        """Return the claims of a token; None unless a key of the ring has signed it and it is valid now."""
        ids = self._tokens.read(token)
        return AccessClaims(ids["sub"], ids["sid"]) if ids else None


@dataclass(frozen=True, repr=False)
class RefreshToken:
    """A refresh token; only its hashes are stored."""

    session_id: bytes
    family: bytes
    secret: bytes

    @classmethod
    def new(cls) -> "RefreshToken":
        """Make the first token of a new session."""
        return cls(
            secrets.token_bytes(SESSION_ID_BYTES), secrets.token_bytes(FAMILY_BYTES), secrets.token_bytes(SECRET_BYTES)
        )

    @classmethod
    def parse(cls, text: str) -> "RefreshToken | None":
        """Read a token; None for anything that `text` cannot have written."""
        value = decode(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else None
        if value is None or len(value) != SESSION_ID_BYTES + FAMILY_BYTES + SECRET_BYTES:
            return None
        return cls(
            value[:SESSION_ID_BYTES],
            value[SESSION_ID_BYTES : SESSION_ID_BYTES + FAMILY_BYTES],
            value[SESSION_ID_BYTES + FAMILY_BYTES :],
        )

    def next(self) -> "RefreshToken":
        """Make the token that replaces this one."""
        return RefreshToken(self.session_id, self.family, secrets.token_bytes(SECRET_BYTES))

    def derive_next(self, key: bytes) -> "RefreshToken":
        """Derive the token that replaces this one, the same each time, with a sub-key of the server."""
        message = b"sealpost/v1/refresh-successor" + self.session_id + self.family + self.secret
        return RefreshToken(self.session_id, self.family, hmac.digest(key, message, sha256))

    @property
    def text(self) -> str:
        """The token as the client keeps it: 89 characters."""
        return PREFIX + encode(self.session_id + self.family + self.secret)

    @property
    def family_hash(self) -> bytes:
        """SHA-256 that tells whether a token was ever one of its session."""
        return sha256(b"sealpost/v1/refresh-family" + self.family).digest()

    @property
    def secret_hash(self) -> bytes:
        """SHA-256 that tells whether a token is its session's current one."""
        return sha256(b"sealpost/v1/refresh-secret" + self.secret).digest()
