"""Accounts for programs that have a name and a password and no session: the senders of the gatherer.

An identity is an account. A free name is reserved first, without a password, if registration is open. The reservation
lapses unless a client authenticates or registers under the name in time, which sets its first password.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from ..core.audit import Audit, AuditEvent, AuditKind
from ..errors import Damaged
from .activity import Activity
from .credentials import CredentialLimits, PasswordAuthenticator
from .problems import RegistrationClosed, UsernameTaken
from .users import User, UserStore

PROOF_BYTES = 16
NO_NEW_NAMES = "This name has no account, and registration is not open. The operator of this service can create one."


@dataclass(frozen=True)
class Identity:
    """A user id; ``is_new`` if the name was free until now. The limit counts it until ``counted_until``."""

    user_id: bytes
    is_new: bool
    counted_until: datetime


@dataclass(frozen=True, repr=False)
class AuthenticatedUser:
    """A user who has given the right password, or the first one; ``proof`` is valid until the password changes."""

    user_id: bytes
    proof: bytes
    is_new: bool


class Identities:
    """Reserves names, checks passwords, and later verifies that both still hold.

    A first password has at least ``shortest_password`` characters. Unless ``registration_is_open``, only names of
    accounts can be identified.
    """

    def __init__(
        self,
        *,
        users: UserStore,
        authenticator: PasswordAuthenticator,
        limits: CredentialLimits,
        activity: Activity,
        audit: Audit,
        shortest_password: int,
        registration_is_open: bool,
    ) -> None:
        self._users = users
        self._authenticator = authenticator
        self._limits = limits
        self._activity = activity
        self._audit = audit
        self._shortest_password = shortest_password
        self._registration_is_open = registration_is_open

    async def identify(self, username: str, network: str) -> Identity:
        """Return the user of a name; a free name is reserved.

        Raises `UsernameTaken` while an account of that name is being deleted, `RegistrationClosed` for a name without
        an account unless registration is open, `LimitReached`, `Damaged`, `Unavailable`.
        """
        # Counted for every name: once the limit is reached, the answer does not tell whether a name is taken.
        counted_until = await self._limits.identify.spend(network)
        if not self._registration_is_open:
            known = await self._users.find_by_name(username)
            if known is None or known.is_reserved:
                raise RegistrationClosed(NO_NEW_NAMES)
            return Identity(known.user_id, False, counted_until)
        reserved = await self._users.reserve(username)
        if reserved is None:
            raise UsernameTaken
        user, is_new = reserved
        return Identity(user.user_id, is_new, counted_until)

    async def take_back(self, network: str, counted_until: datetime) -> None:
        """Uncount an identification whose sender has authenticated; at most once for each. Raises `Unavailable`."""
        await self._limits.identify.give_back(network, window=counted_until)

    async def find(self, username: str) -> bytes | None:
        """Return the id of the user of a name; None if the name is free. Raises `Damaged`, `Unavailable`."""
        user = await self._users.find_by_name(username)
        return user.user_id if user else None

    async def authenticate(self, username: str, password: str, network: str) -> AuthenticatedUser:
        """Check a password, or make it the first password of a reserved name.

        Raises `IncorrectCredentials`, `AccountDisabled`, `RegistrationClosed` for a reserved name unless registration
        is open, `Malformed` for a first password that is too short, `LimitReached`, `Damaged`, `Unavailable`.
        """
        with self._authenticator.timed() as stopwatch:
            user, is_new = await self._authenticator.verify_or_begin(
                username,
                password,
                network,
                stopwatch,
                may_begin=self._registration_is_open,
                shortest=self._shortest_password,
            )
        self._audit.record(
            AuditEvent(kind=AuditKind.SIGNED_IN, user_id=user.user_id, method="password", network=network)
        )
        return AuthenticatedUser(user.user_id, _proof(user), is_new)

    async def are_good(self, user_id: bytes, proof: bytes) -> bool:
        """Tell whether a user exists, is not disabled, and has the password that the proof was made for.

        The user then counts as active. Raises `Unavailable`.
        """
        try:
            user = await self._users.find(user_id)
        except Damaged:
            return False
        if user is None or user.content.disabled or not hmac.compare_digest(_proof(user), proof):
            return False
        self._activity.note(user_id, None)
        return True


def _proof(user: User) -> bytes:
    # A password hash contains its random salt and is stored sealed, so passwords cannot be tried against a proof.
    return sha256(b"sealpost/v1/password-proof" + (user.content.password_hash or "").encode()).digest()[:PROOF_BYTES]
