"""Signed tokens that carry ids: JWTs (RFC 7519) under HS256, signed with the sub-key of the key that ``kid`` names.

Each kind of token has its own purpose and audience, so a token of one kind is never valid as another.
"""

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256
from typing import NamedTuple

import jwt

from ..clock import DatabaseClock
from .keys import KeyRing, Purpose

ALGORITHM = "HS256"
ISSUER = "sealpost"
LEEWAY = timedelta(seconds=5)
"""Tolerated difference between two processes' views of MongoDB's time."""
REGISTERED = ["exp", "iat", "iss", "aud", "jti"]
MOST_VERIFIED = 10_000
"""Tokens whose signature is not verified again. Whether they have expired is checked each time."""
_ID_BYTES = 16


class _Verified(NamedTuple):
    """The ids of a token with a valid signature, and its times in seconds since 1970."""

    ids: Mapping[str, bytes]
    issued_at: int
    expires_at: int


class SignedTokens:
    """Issues and verifies one kind of token; ``ids`` lists its claims, with their lengths in bytes.

    Without a ``clock``, tokens expire by this host's clock.
    """

    def __init__(
        self,
        ring: KeyRing,
        purpose: Purpose,
        *,
        audience: str,
        ids: Mapping[str, int],
        clock: DatabaseClock | None = None,
    ) -> None:
        self._ring = ring
        self._clock = clock or DatabaseClock()
        self._purpose = purpose
        self._audience = audience
        self._ids = ids
        self._verified: dict[bytes, _Verified] = {}

    def write(self, ids: Mapping[str, bytes], *, issued_at: datetime, expires_at: datetime) -> str:
        """Issue a token, signed with the newest key."""
        key_id = self._ring.newest
        payload = {
            "iss": ISSUER,
            "aud": self._audience,
            **{claim: value.hex() for claim, value in ids.items()},
            "jti": secrets.token_hex(_ID_BYTES),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(payload, self._key(key_id), algorithm=ALGORITHM, headers={"kid": key_id})

    def read(self, token: str) -> Mapping[str, bytes] | None:
        """Return the ids in a token, or None unless it is valid now and signed by a key of the ring."""
        digest = sha256(token.encode(errors="surrogatepass")).digest()
        verified = self._verified.get(digest)
        if verified is None:
            verified = self._verify(token)
            if verified is None:
                return None
            if len(self._verified) >= MOST_VERIFIED:
                self._verified.clear()
            self._verified[digest] = verified
        return verified.ids if self._is_current(verified) else None

    def _verify(self, token: str) -> "_Verified | None":
        try:
            key = self._key(str(jwt.get_unverified_header(token).get("kid")))
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=self._audience,
                leeway=LEEWAY,
                # The library would compare these claims with this host's clock.
                options={
                    "require": [*REGISTERED, *self._ids],
                    "strict_aud": True,
                    "verify_iat": False,
                    "verify_exp": False,
                },
            )
            ids = {claim: bytes.fromhex(payload[claim]) for claim in self._ids}
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError):
            return None
        issued_at, expires_at = payload["iat"], payload["exp"]
        if not (isinstance(issued_at, int) and isinstance(expires_at, int)):
            return None
        has_lengths = all(len(ids[claim]) == length for claim, length in self._ids.items())
        return _Verified(ids, issued_at, expires_at) if has_lengths else None

    def _is_current(self, verified: "_Verified") -> bool:
        now, leeway = self._clock.now().timestamp(), LEEWAY.total_seconds()
        return verified.issued_at - leeway <= now < verified.expires_at + leeway

    def _key(self, key_id: str) -> bytes:
        key = self._ring.subkey(self._purpose, key_id)
        if key is None:
            raise KeyError(key_id)
        return key
