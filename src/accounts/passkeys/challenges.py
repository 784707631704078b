"""Challenges for passkeys: signed tokens, so that asking for one stores nothing; a used one is remembered.

Each is valid for `LIFE` and one use, and only for its purpose. The challenge for a new passkey also belongs to the
session that asked for it.
"""

import secrets
from dataclasses import dataclass
from datetime import timedelta

from pymongo import IndexModel

from ...core.crypto.keys import KeyRing, Purpose
from ...core.crypto.signed_tokens import LEEWAY, SignedTokens
from ...core.database.mongo import Indexes, Mongo, insert_unique
from ..auth import Caller

COLLECTION = "passkey_challenges"
INDEXES: Indexes = {COLLECTION: [IndexModel("delete_at", name="delete_at", expireAfterSeconds=0)]}
LIFE = timedelta(minutes=5)
CHALLENGE_BYTES = 32
CREATION_AUDIENCE, SIGN_IN_AUDIENCE = "sealpost-passkey-creation", "sealpost-passkey-sign-in"
_FOR_SIGN_IN = {"cha": CHALLENGE_BYTES}
_FOR_CREATION = {**_FOR_SIGN_IN, "sub": 16, "sid": 16}


@dataclass(frozen=True)
class Challenge:
    """The random bytes that an authenticator signs, and the token that brings them back."""

    value: bytes
    token: str


class Challenges:
    """Issues, reads and uses challenges."""

    def __init__(self, mongo: Mongo, ring: KeyRing) -> None:
        self._used = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._creation, self._sign_in = (
            SignedTokens(ring, Purpose.PASSKEY_CHALLENGE, audience=audience, ids=ids, clock=mongo.clock)
            for audience, ids in ((CREATION_AUDIENCE, _FOR_CREATION), (SIGN_IN_AUDIENCE, _FOR_SIGN_IN))
        )

    def for_creation(self, caller: Caller) -> Challenge:
        """Return a challenge for a new passkey of the caller."""
        return self._new(self._creation, sub=caller.user_id, sid=caller.session)

    def for_sign_in(self) -> Challenge:
        """Return a challenge for signing in."""
        return self._new(self._sign_in)

    def read_for_creation(self, token: str, caller: Caller) -> bytes | None:
        """Return a challenge for a new passkey of this caller and session; None if it is invalid or has expired."""
        ids = self._creation.read(token)
        return ids["cha"] if ids and (ids["sub"], ids["sid"]) == (caller.user_id, caller.session) else None

    def read_for_sign_in(self, token: str) -> bytes | None:
        """Return a challenge for signing in; None if it is invalid or has expired."""
        ids = self._sign_in.read(token)
        return ids["cha"] if ids else None

    async def use(self, challenge: bytes) -> bool:
        """Use up a challenge that has been read; False if it was used before."""
        # Longer than the token is valid, by the clock of any process.
        return await insert_unique(self._used, {"_id": challenge, "delete_at": self._clock.now() + LIFE + 2 * LEEWAY})

    def _new(self, tokens: SignedTokens, **ids: bytes) -> Challenge:
        value, now = secrets.token_bytes(CHALLENGE_BYTES), self._clock.now()
        return Challenge(value, tokens.write({"cha": value, **ids}, issued_at=now, expires_at=now + LIFE))
