"""Operations on accounts for the operator of the service."""

import asyncio
from dataclasses import dataclass
from typing import Any

from ..errors import Damaged
from .api_tokens import ApiTokenStore
from .credentials import CredentialLimits
from .passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, hash_password
from .sessions import SessionStore
from .users import User, UserStore


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


@dataclass(frozen=True)
class Account:
    """A user with the number of live sessions and API tokens."""

    user: User
    sessions: int
    tokens: int


class AccountAdministration:
    """Shows and changes accounts.

    All methods with a username raise `UnknownUser`, `UnreadableUser`, and `Unavailable`.
    """

    def __init__(
        self,
        *,
        users: UserStore,
        sessions: SessionStore,
        tokens: ApiTokenStore,
        limits: CredentialLimits,
        bcrypt_cost: int,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._tokens = tokens
        self._limits = limits
        self._bcrypt_cost = bcrypt_cost

    async def show(self, username: str) -> Account:
        """Return a user with the number of sessions and API tokens."""
        user = await self._find(username)
        sessions, tokens = await self._sessions.live(user.user_id), await self._tokens.of_user(user.user_id)
        return Account(user, len(sessions), len(tokens))

    async def disable(self, username: str) -> User:
        """Disable login and API tokens of a user, and end all sessions."""
        user = await self._change(username, disabled=True)
        # After the change: a login in progress either has its session ended here, or reads the change at its end.
        await self._sessions.end_all(user.user_id)
        return user

    async def enable(self, username: str) -> User:
        """Enable login and API tokens of a user again, and forget failed logins."""
        user = await self._change(username, disabled=False)
        await self._limits.forgive(user.name)
        return user

    async def set_operator(self, username: str, *, operator: bool) -> User:
        """Make a user an operator, or revoke it."""
        return await self._change(username, operator=operator)

    async def reset_password(self, username: str, password: str) -> User:
        """Set a user's password, end all sessions and forget failed logins. Raises `UnusablePassword`."""
        check_length(password)
        password_hash = await asyncio.to_thread(hash_password, password, self._bcrypt_cost)
        user = await self._change(username, password_hash=password_hash)
        await self._sessions.end_all(user.user_id)
        await self._limits.forgive(user.name)
        return user

    async def _change(self, username: str, **changes: Any) -> User:
        while True:
            user = await self._find(username)
            if all(getattr(user.content, name) == value for name, value in changes.items()):
                return user
            if changed := await self._users.change(user, **changes):
                return changed
            # The user was sealed again meanwhile, by a login or under another key, or was deleted.

    async def _find(self, username: str) -> User:
        try:
            user = await self._users.find_by_name(username)
        except Damaged:
            raise UnreadableUser(username) from None
        except UnicodeEncodeError:
            user = None
        # A reserved name is no account yet. If it were made an operator, the first client to set its password would be
        # an operator.
        if user is None or user.is_reserved:
            raise UnknownUser(username)
        return user


def check_length(password: str) -> None:
    """Raise `UnusablePassword` for a length that registration would not accept."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UnusablePassword
