"""The rules of passkeys: who may add, use and delete them."""

import random
from collections.abc import Mapping
from typing import Any

import structlog

from ...core.audit import Audit, AuditEvent, AuditKind
from ...core.database.failure_limits import FailureLimit, failures_counted
from ...core.metrics import Metrics, Stopwatch
from ..auth import Authenticator, Caller
from ..problems import (
    AccountDisabled,
    InvalidPasskey,
    InvalidToken,
    PasskeyExists,
    PasskeyNotFound,
    PasskeyRefused,
    TooManyPasskeys,
)
from ..reauthentication import Reauthentication
from ..sign_in import SignIn, TokenPair
from ..sign_in_ways import SignInWays
from ..users import User, UserStore
from .ceremonies import (
    Refused,
    RelyingParty,
    creation_options,
    credential_id_of,
    request_options,
    verify_assertion,
    verify_creation,
)
from .challenges import Challenges
from .store import Passkey, PasskeyContent, PasskeyStore

MOST_PASSKEYS = 20
"""Passkeys that one user may have."""
EXPIRED = "The challenge has expired, was used before, or belongs to another session. Ask for new options."

Credential = Mapping[str, Any]
Options = tuple[str, dict[str, Any]]
"""A challenge's token, and the options for the browser."""

log = structlog.get_logger(__name__)


class PasskeyService:
    """Adds and deletes passkeys, and signs users in by them."""

    def __init__(
        self,
        *,
        users: UserStore,
        passkeys: PasskeyStore,
        challenges: Challenges,
        authenticator: Authenticator,
        reauthentication: Reauthentication,
        ways: SignInWays,
        sign_in: SignIn,
        failures: FailureLimit,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._users = users
        self._passkeys = passkeys
        self._challenges = challenges
        self._authenticator = authenticator
        self._reauthentication = reauthentication
        self._ways = ways
        self._sign_in = sign_in
        self._failures = failures
        self._times = metrics.authentication.child("passkey")
        self._audit = audit

    async def creation_options(self, caller: Caller, password: str | None, party: RelyingParty) -> Options:
        """Return the options to create a passkey.

        Raises `IncorrectPassword`, `SignInAgain`, `TooManyPasskeys`, `InvalidToken`, `LimitReached`, `Damaged`,
        `Unavailable`.
        """
        user = await self._reauthentication.confirm_either(caller, password)
        present = await self._passkeys.of_user(user.user_id)
        if len(present) >= MOST_PASSKEYS:
            raise TooManyPasskeys
        challenge = self._challenges.for_creation(caller)
        return challenge.token, creation_options(
            party, user_id=user.user_id, username=user.name, challenge=challenge.value, present=present
        )

    async def add(
        self, caller: Caller, party: RelyingParty, *, challenge: str, name: str, credential: Credential, network: str
    ) -> Passkey:
        """Store the passkey in a browser's answer.

        Raises `InvalidPasskey`, `PasskeyExists`, `TooManyPasskeys`, `InvalidToken`, `Unavailable`.
        """
        value = self._challenges.read_for_creation(challenge, caller)
        if value is None:
            raise InvalidPasskey(EXPIRED)
        try:
            content, sign_count = verify_creation(party, credential, user_id=caller.user_id, challenge=value, name=name)
        except Refused:
            raise InvalidPasskey from None
        if not await self._challenges.use(value):
            raise InvalidPasskey(EXPIRED)
        passkey = await self._store(content, sign_count)
        try:
            await self._authenticator.confirm(caller.user_id)
        except InvalidToken:
            # The account was deleted meanwhile, and its passkeys perhaps before this one was stored.
            await self._passkeys.remove_all(caller.user_id)
            raise
        self._audit.record(AuditEvent(kind=AuditKind.PASSKEY_ADDED, user_id=caller.user_id, network=network))
        return passkey

    async def rename(self, caller: Caller, passkey_id: bytes, name: str) -> Passkey:
        """Rename one of the caller's passkeys. Raises `PasskeyNotFound`, `Unavailable`."""
        passkey = await self._passkeys.rename(caller.user_id, passkey_id, name)
        if passkey is None:
            raise PasskeyNotFound
        return passkey

    async def remove(self, caller: Caller, passkey_id: bytes, password: str | None, network: str) -> None:
        """Delete one of the caller's passkeys.

        Raises `Malformed` without a required password, `IncorrectPassword`, `SignInAgain`, `LastWayToSignIn`,
        `PasskeyNotFound`, `InvalidToken`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        user = await self._reauthentication.confirm(caller, password, field="password")

        async def removal(session: Any) -> None:
            if not await self._passkeys.remove(user.user_id, passkey_id, session):
                raise PasskeyNotFound

        await self._ways.remove(user.user_id, removal)
        self._audit.record(AuditEvent(kind=AuditKind.PASSKEY_DELETED, user_id=user.user_id, network=network))

    def request_options(self, party: RelyingParty) -> Options:
        """Return the options to sign in with any passkey of this service; stores nothing."""
        challenge = self._challenges.for_sign_in()
        return challenge.token, request_options(party, challenge.value)

    async def sign_in(self, party: RelyingParty, *, challenge: str, credential: Credential, network: str) -> TokenPair:
        """Begin a session for the user of a passkey.

        Raises `PasskeyRefused`, `AccountDisabled`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        with Stopwatch(self._times):
            async with failures_counted(self._failures.of(network)):
                user = await self._user_of(party, challenge, credential, network)
            if user.content.disabled:
                raise AccountDisabled
            pair = await self._sign_in.start(user.user_id, method="passkey", network=network)
            if pair is None:
                raise PasskeyRefused
            return pair

    async def _user_of(self, party: RelyingParty, challenge: str, credential: Credential, network: str) -> User:
        value = self._challenges.read_for_sign_in(challenge)
        credential_id = credential_id_of(credential)
        passkey = await self._passkeys.find(credential_id) if value and credential_id else None
        user = await self._users.find(passkey.content.user_id) if passkey else None
        if value is None or passkey is None or user is None:
            raise self._refusal(None, network)
        try:
            sign_count = verify_assertion(party, credential, passkey=passkey.content, challenge=value)
        except Refused:
            raise self._refusal(user, network) from None
        if not await self._challenges.use(value):
            raise self._refusal(user, network)
        if not await self._passkeys.note_use(passkey, sign_count):
            # Two authenticators have the private key, and perhaps one of them is a thief's.
            log.warning("passkey with an old counter refused", passkey_id=passkey.passkey_id.hex())
            raise self._refusal(user, network)
        return user

    def _refusal(self, user: User | None, network: str) -> PasskeyRefused:
        self._audit.record(
            AuditEvent(
                kind=AuditKind.SIGN_IN_FAILED,
                user_id=user.user_id if user else None,
                method="passkey",
                network=network,
            )
        )
        return PasskeyRefused()

    async def _store(self, content: PasskeyContent, sign_count: int) -> Passkey:
        while slots := await self._passkeys.free_slots(content.user_id, MOST_PASSKEYS):
            # A random slot, so that concurrent requests seldom collide.
            if passkey := await self._passkeys.add(content, sign_count, random.choice(slots)):  # noqa: S311 (no secret)
                return passkey
            if await self._passkeys.find(content.credential_id):
                raise PasskeyExists
        raise TooManyPasskeys
