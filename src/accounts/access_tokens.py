"""Access tokens: JWTs (RFC 7519) under HS256, signed with a sub-key of the ring that their ``kid`` names.

They live for ten minutes and are believed without a look into the database; `ended_sessions` is what ends one early.
"""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

import jwt

from ..core.keys import KeyRing, Purpose

ALGORITHM = "HS256"
ISSUER = AUDIENCE = "sealpost"
LIFE = timedelta(minutes=10)
LEEWAY = timedelta(seconds=5)
"""By how much the clocks of two hosts may differ."""
REQUIRED = ["exp", "iat", "iss", "aud", "sub", "sid", "jti"]
_ID_BYTES = 16


@dataclass(frozen=True)
class AccessClaims:
    """Whose token it is, and of which session."""

    user_id: bytes
    session_id: bytes


class AccessTokens:
    """Writes and reads access tokens."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def write(self, claims: AccessClaims, *, issued_at: datetime, expires_at: datetime) -> str:
        """Return a token, signed with the newest key."""
        key_id = self._ring.newest
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": claims.user_id.hex(),
            "sid": claims.session_id.hex(),
            "jti": secrets.token_hex(_ID_BYTES),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(payload, self._key(key_id), algorithm=ALGORITHM, headers={"kid": key_id})

    def read(self, token: str) -> AccessClaims | None:
        """Return what a token says; None unless a key of the ring has signed all of it and it is valid now."""
        try:
            key = self._key(str(jwt.get_unverified_header(token).get("kid")))
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                leeway=LEEWAY,
                options={"require": REQUIRED, "strict_aud": True},
            )
            claims = AccessClaims(bytes.fromhex(payload["sub"]), bytes.fromhex(payload["sid"]))
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
            return None
        return claims if len(claims.user_id) == len(claims.session_id) == _ID_BYTES else None

    def _key(self, key_id: str) -> bytes:
        key = self._ring.subkey(Purpose.ACCESS_TOKEN, key_id)
        if key is None:
            raise KeyError(key_id)
        return key
