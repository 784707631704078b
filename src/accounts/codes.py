"""Sign-in codes: a signed-in user hands a session of its own to a program, such as the terminal client.

A code is a signed token, so that issuing one stores nothing; a used one is remembered until it has expired. It is worth
nothing without the verifier whose SHA-256 is the challenge that the program chose (RFC 7636), and after the session
that issued it has ended.
"""

import hmac
import secrets
from collections.abc import Mapping
from datetime import timedelta
from hashlib import sha256

from pymongo import IndexModel

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.signed_tokens import LEEWAY, SignedTokens
from ..core.database.failure_limits import failures_counted
from ..core.database.mongo import Indexes, Mongo, insert_unique
from .auth import Caller
from .credentials import CredentialLimits
from .problems import InvalidCode
from .sessions import Session, SessionStore
from .sign_in import SignIn, TokenPair
from .users import User

COLLECTION = "sign_in_codes"
INDEXES: Indexes = {COLLECTION: [IndexModel("delete_at", name="delete_at", expireAfterSeconds=0)]}
LIFE = timedelta(seconds=60)
AUDIENCE = "sealpost-sign-in-code"
ID_BYTES = 16
_IDS = {"cid": ID_BYTES, "sub": 16, "sid": 16, "cha": 32}


class SignInCodes:
    """Issues and exchanges codes."""

    def __init__(
        self,
        *,
        mongo: Mongo,
        ring: KeyRing,
        sessions: SessionStore,
        sign_in: SignIn,
        limits: CredentialLimits,
        audit: Audit,
    ) -> None:
        self._used = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._tokens = SignedTokens(ring, Purpose.SIGN_IN_CODE, audience=AUDIENCE, ids=_IDS, clock=mongo.clock)
        self._sessions = sessions
        self._sign_in = sign_in
        self._limits = limits
        self._audit = audit

    async def issue(self, caller: Caller, challenge: bytes) -> str:
        """Return a code for a caller with an access token. Raises `LimitReached`, `Unavailable`."""
        await self._limits.sign_in_codes.spend(caller.user_id.hex())
        now = self._clock.now()
        ids = {
            "cid": secrets.token_bytes(ID_BYTES),
            "sub": caller.user_id,
            "sid": caller.session,
            "cha": challenge,
        }
        return self._tokens.write(ids, issued_at=now, expires_at=now + LIFE)

    async def exchange(self, code: str, verifier: str, network: str) -> TokenPair:
        """Start a session. Raises `InvalidCode`, `LimitReached`, `Damaged`, `Unavailable`."""
        ids = self._tokens.read(code)
        user_id = ids["sub"] if ids else None
        async with failures_counted(self._limits.login_address.of(network)):
            digest = sha256(verifier.encode()).digest()
            if ids is None or not hmac.compare_digest(digest, ids["cha"]) or not await self._use(ids["cid"]):
                raise self._refusal(user_id, network)
        issuer = await self._issuer(ids)
        if issuer is None:
            raise self._refusal(user_id, network)

        async def is_allowed(_: User) -> bool:
            return await self._issuer(ids) is not None

        # The user signed in to the session that issued the code. Otherwise, a stolen access token of an old session
        # could get a session that counts as a recent sign-in.
        pair = await self._sign_in.start(
            ids["sub"], method="code", network=network, signed_in_at=issuer.signed_in_at, is_allowed=is_allowed
        )
        if pair is None:
            raise self._refusal(user_id, network)
        return pair

    async def _issuer(self, ids: Mapping[str, bytes]) -> Session | None:
        """Return the session that issued a code; None if it has ended."""
        live = await self._sessions.live(ids["sub"])
        return next((session for session in live if session.session_id == ids["sid"]), None)

    async def _use(self, code_id: bytes) -> bool:
        """Use up a code; False if it was used before."""
        # Longer than the token is valid, by the clock of any process.
        return await insert_unique(self._used, {"_id": code_id, "delete_at": self._clock.now() + LIFE + 2 * LEEWAY})

    def _refusal(self, user_id: bytes | None, network: str) -> InvalidCode:
        self._audit.record(AuditEvent(kind=AuditKind.SIGN_IN_FAILED, user_id=user_id, method="code", network=network))
        return InvalidCode()
