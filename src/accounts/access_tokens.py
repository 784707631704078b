"""Access tokens: they live for ten minutes and are believed without a look into the database.

`ended_sessions` is what ends one early.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.signed_tokens import REGISTERED, SignedTokens

AUDIENCE = "sealpost"
LIFE = timedelta(minutes=10)
_ID_BYTES = 16
IDS = {"sub": _ID_BYTES, "sid": _ID_BYTES}
REQUIRED = [*REGISTERED, *IDS]


@dataclass(frozen=True)
class AccessClaims:
    """Whose token it is, and of which session."""

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
        """Return what a token says; None unless a key of the ring has signed all of it and it is valid now."""
        ids = self._tokens.read(token)
        return AccessClaims(ids["sub"], ids["sid"]) if ids else None
