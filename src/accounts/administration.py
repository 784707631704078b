"""What the operator may do with the accounts of others."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from ..errors import Damaged
from .api_tokens import ApiTokenStore
from .credentials import CredentialLimits
from .passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD, hash_password
from .sessions import SessionStore
from .users import User, UserStore


class Refused(Exception):
    """What the operator asked for cannot be done; the message says why."""


class UnknownUser(Refused):
    """There is no such user, or no longer."""

    def __init__(self, username: str) -> None:
        super().__init__(f"there is no user named {username!r}")


class UnreadableUser(Refused):
    """The user is there and does not open."""

    def __init__(self, username: str) -> None:
        super().__init__(
            f"the account of {username!r} does not open: it was changed in the database, or its key is not in the ring"
        )


class UnusablePassword(Refused):
    """The password is none that registration would accept."""

    def __init__(self) -> None:
        super().__init__(f"a password has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters")


@dataclass(frozen=True)
class Account:
    """A user, and how many sessions and API tokens of theirs are live."""

    user: User
    sessions: int
    tokens: int


class AccountAdministration:
    """Looks at accounts and changes them.

    Whatever names a user raises `UnknownUser`, `UnreadableUser`, and `Unavailable`.
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

    def list(self) -> AsyncIterator[User | bytes]:
        """Yield every user by age, and the id of each one that does not open. Raises `Unavailable`."""
        return self._users.all()

    async def show(self, username: str) -> Account:
        """Return a user with what they have."""
        user = await self._find(username)
        sessions, tokens = await self._sessions.live(user.user_id), await self._tokens.of_user(user.user_id)
        return Account(user, len(sessions), len(tokens))

    async def disable(self, username: str) -> User:
        """Let a user no longer sign in or use an API token, and end every session."""
        user = await self._change(username, disabled=True)
        # After that, so that a sign-in that was under way ends too: it looks at the account again when it is done.
        await self._sessions.end_all(user.user_id)
        return user

    async def enable(self, username: str) -> User:
        """Let a user sign in again and forgive failed logins; their API tokens work again."""
        user = await self._change(username, disabled=False)
        await self._limits.forgive(user.name)
        return user

    async def set_operator(self, username: str, *, operator: bool) -> User:
        """Make a user an operator, or no longer one."""
        return await self._change(username, operator=operator)

    async def reset_password(self, username: str, password: str) -> User:
        """Give a user another password, end every session and forgive failed sign-ins. Raises `UnusablePassword`."""
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
            # Sealed anew meanwhile, by a sign-in or under another key, or deleted.

    async def _find(self, username: str) -> User:
        try:
            user = await self._users.find_by_name(username)
        except Damaged:
            raise UnreadableUser(username) from None
        except UnicodeEncodeError:
            user = None
        # A name that is kept for somebody to set its first password is nobody yet. Were it made an operator, say,
        # whoever comes first would be one.
        if user is None or user.is_reserved:
            raise UnknownUser(username)
        return user


def check_length(password: str) -> None:
    """Raise `UnusablePassword` for what registration would not accept."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise UnusablePassword
