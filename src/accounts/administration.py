"""Operations on accounts and invitations for operators, on the command line and over HTTP."""

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import DatabaseClock
from ..errors import Damaged
from .api_tokens import ApiTokenStore
from .credentials import CredentialLimits
from .invitations import Invitation, InvitationContent, InvitationStore, hash_invitation, new_invitation
from .passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, hash_password
from .problems import InvitationNotFound, InvitationsOff, OwnAccount, TooManyInvitations
from .sessions import SessionStore
from .users import NAME_PATTERN, User, UserContent, UserStore

_KINDS = {
    ("disabled", True): AuditKind.USER_DISABLED,
    ("disabled", False): AuditKind.USER_ENABLED,
    ("operator", True): AuditKind.OPERATOR_GRANTED,
    ("operator", False): AuditKind.OPERATOR_REVOKED,
}


class AdministrationError(Exception):
    """An operation is not possible; the message says why."""


class UnknownUser(AdministrationError):
    """The user does not exist (any more)."""

    def __init__(self, username: str) -> None:
        super().__init__(f"there is no user named {username!r}")


class UnreadableUser(AdministrationError):
    """The user exists and cannot be read."""

    def __init__(self, username: str) -> None:
        super().__init__(
            f"the account of {username!r} cannot be decrypted: modified in the database, or its key is not in the key"
            " ring"
        )


class UnusablePassword(AdministrationError):
    """Registration would not accept the password."""

    def __init__(self) -> None:
        super().__init__(f"a password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")


class UnusableName(AdministrationError):
    """Registration would not accept the username."""

    def __init__(self) -> None:
        super().__init__("a username must have 3 to 32 of the characters A-Z, a-z, 0-9, _, . and -")


class NameTaken(AdministrationError):
    """There is an account with this username."""

    def __init__(self, username: str) -> None:
        super().__init__(f"the username {username!r} is taken")


@dataclass(frozen=True)
class Actor:
    """The operator who acts over HTTP, and the network of the request."""

    user_id: bytes
    network: str


@dataclass(frozen=True)
class Account:
    """A user with the number of live sessions and API tokens."""

    user: User
    sessions: int
    tokens: int


class AccountAdministration:
    """Shows, creates and changes accounts; an ``actor`` is None on the command line.

    Methods that take ``which``, a username or a user id, raise `UnknownUser` and `UnreadableUser`. All raise
    `Unavailable`.
    """

    def __init__(
        self,
        *,
        users: UserStore,
        sessions: SessionStore,
        tokens: ApiTokenStore,
        limits: CredentialLimits,
        bcrypt_cost: int,
        audit: Audit,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._tokens = tokens
        self._limits = limits
        self._bcrypt_cost = bcrypt_cost
        self._audit = audit

    async def show(self, username: str) -> Account:
        """Return a user with the number of sessions and API tokens."""
        user = await self._find(username)
        sessions, tokens = await self._sessions.live(user.user_id), await self._tokens.of_user(user.user_id)
        return Account(user, len(sessions), len(tokens))

    async def create(self, username: str, password: str, *, operator: bool = False) -> User:
        """Create an account, whoever may register. Raises `UnusableName`, `UnusablePassword`, `NameTaken`."""
        if not re.fullmatch(NAME_PATTERN, username):
            raise UnusableName
        check_length(password)
        if await self._users.is_taken(username):
            raise NameTaken(username)
        password_hash = await asyncio.to_thread(hash_password, password, self._bcrypt_cost)
        content = UserContent(username=username, password_hash=password_hash, operator=operator)
        user = await self._users.claim(content)
        if user is None:
            raise NameTaken(username)
        self._record(AuditKind.REGISTERED, user, None)
        if operator:
            self._record(AuditKind.OPERATOR_GRANTED, user, None)
        return user

    async def change(
        self,
        which: str | bytes,
        *,
        disabled: bool | None = None,
        operator: bool | None = None,
        actor: Actor | None = None,
    ) -> User:
        """Change whether a user is disabled or an operator; None changes nothing.

        Disabling rejects the password and API tokens, and ends all sessions. Enabling forgets failed logins. Raises
        `OwnAccount` if the actor is the user.
        """
        if actor and actor.user_id == which:
            raise OwnAccount
        changes = {"disabled": disabled, "operator": operator}
        changes = {name: value for name, value in changes.items() if value is not None}
        before, user = await self._change(which, **changes)
        if disabled:
            # After the change: a login in progress either has its session ended here, or reads the change at its end.
            await self._sessions.end_all(user.user_id)
        elif disabled is not None:
            await self._limits.forgive(user.name)
        for name, value in changes.items():
            if getattr(before.content, name) != value:
                self._record(_KINDS[name, bool(value)], user, actor)
        return user

    async def reset_password(self, username: str, password: str) -> User:
        """Set a user's password, end all sessions and forget failed logins. Raises `UnusablePassword`."""
        check_length(password)
        password_hash = await asyncio.to_thread(hash_password, password, self._bcrypt_cost)
        _, user = await self._change(username, password_hash=password_hash)
        await self._sessions.end_all(user.user_id)
        await self._limits.forgive(user.name)
        self._record(AuditKind.PASSWORD_CHANGED, user, None)
        return user

    def _record(self, kind: AuditKind, user: User, actor: Actor | None) -> None:
        self._audit.record(_event(kind, actor, user_id=user.user_id))

    async def _change(self, which: str | bytes, **changes: Any) -> tuple[User, User]:
        """Return the user as it was and as it is now."""
        while True:
            user = await self._find(which)
            if all(getattr(user.content, name) == value for name, value in changes.items()):
                return user, user
            if changed := await self._users.change(user, **changes):
                return user, changed
            # The user was sealed again meanwhile, by a login or under another key, or was deleted.

    async def _find(self, which: str | bytes) -> User:
        name = which.hex() if isinstance(which, bytes) else which
        try:
            user = await (self._users.find(which) if isinstance(which, bytes) else self._users.find_by_name(which))
        except Damaged:
            raise UnreadableUser(name) from None
        except UnicodeEncodeError:
            user = None
        # A reserved name is no account yet. If it were made an operator, the first client to set its password would be
        # an operator.
        if user is None or user.is_reserved:
            raise UnknownUser(name)
        return user


class InvitationAdministration:
    """Creates, lists and deletes invitations; all methods raise `Unavailable`.

    If ``registration_is_closed``, no invitation works.
    """

    def __init__(
        self, invitations: InvitationStore, clock: DatabaseClock, audit: Audit, *, registration_is_closed: bool
    ) -> None:
        self._invitations = invitations
        self._clock = clock
        self._audit = audit
        self._registration_is_closed = registration_is_closed

    async def create(
        self, *, operator: bool, uses: int, life: timedelta, actor: Actor | None = None
    ) -> tuple[Invitation, str]:
        """Create an invitation, and return it with its text, which is not stored.

        Raises `InvitationsOff`, `TooManyInvitations`.
        """
        if self._registration_is_closed:
            raise InvitationsOff
        text = new_invitation()
        content = InvitationContent(
            hash=hash_invitation(text),
            operator=operator,
            created_by=actor.user_id if actor else None,
            uses=uses,
            expires_at=self._clock.now() + life,
        )
        invitation = await self._invitations.add(content)
        if invitation is None:
            raise TooManyInvitations
        self._audit.record(_event(AuditKind.INVITED, actor))
        return invitation, text

    async def all(self) -> list[Invitation]:
        """Return all invitations, newest first."""
        return await self._invitations.all()

    async def delete(self, invitation_id: bytes, actor: Actor | None = None) -> None:
        """Delete an invitation. Raises `InvitationNotFound`."""
        if not await self._invitations.remove(invitation_id):
            raise InvitationNotFound
        self._audit.record(_event(AuditKind.INVITATION_DELETED, actor))


def _event(kind: AuditKind, actor: Actor | None, *, user_id: bytes | None = None) -> AuditEvent:
    return AuditEvent(
        kind=kind, user_id=user_id, by=actor.user_id if actor else None, network=actor.network if actor else None
    )


def check_length(password: str) -> None:
    """Raise `UnusablePassword` for a length that registration would not accept."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UnusablePassword
