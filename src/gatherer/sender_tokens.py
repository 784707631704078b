"""The token that a sender gets for its password: a JWT, good for ten minutes, from one address, in one authentication.

It is no access token, nor is an access token one of these: key and audience differ.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.signed_tokens import REGISTERED, SignedTokens

AUDIENCE = "sealpost-gatherer"
LIFE = timedelta(seconds=600)
_ID_BYTES, _INDEX_BYTES = 16, 32
IDS = {"sub": _ID_BYTES, "sid": _ID_BYTES, "adr": _INDEX_BYTES, "prf": _ID_BYTES}
REQUIRED = [*REGISTERED, *IDS]


@dataclass(frozen=True, repr=False)
class SenderClaims:
    """Whose token it is, and of which state; for which address, as an index; and the proof of the password."""

    user_id: bytes
    state_id: bytes
    address_index: bytes
    proof: bytes


class SenderTokens:
    """Writes and reads the tokens of senders."""

    def __init__(self, ring: KeyRing, clock: DatabaseClock | None = None) -> None:
        self._tokens = SignedTokens(ring, Purpose.GATHER_TOKEN, audience=AUDIENCE, ids=IDS, clock=clock)

    def write(self, claims: SenderClaims, *, issued_at: datetime) -> str:
        """Return a token, signed with the newest key."""
        ids = {"sub": claims.user_id, "sid": claims.state_id, "adr": claims.address_index, "prf": claims.proof}
        return self._tokens.write(ids, issued_at=issued_at, expires_at=issued_at + LIFE)

    def read(self, token: str) -> SenderClaims | None:
        """Return what a token says; None unless a key of the ring has signed all of it and it is valid now."""
        ids = self._tokens.read(token)
        return SenderClaims(ids["sub"], ids["sid"], ids["adr"], ids["prf"]) if ids else None
