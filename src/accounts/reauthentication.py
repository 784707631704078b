"""Confirmation that the user is present, for changes of how an account signs in."""

from datetime import timedelta

from ..errors import FieldError, Malformed
from .auth import Caller
from .credentials import PasswordAuthenticator
from .passwords import Passwords
from .problems import IncorrectPassword, InvalidToken, SignInAgain
from .sessions import SessionStore
from .users import User, UserStore

RECENT = timedelta(minutes=10)
"""How long after its start a session confirms changes of an account without a password."""


class Reauthentication:
    """Confirms a caller by the password, or by a session that has started recently."""

    def __init__(
        self, *, users: UserStore, sessions: SessionStore, passwords: Passwords, authenticator: PasswordAuthenticator
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._passwords = passwords
        self._authenticator = authenticator

    async def confirm(self, caller: Caller, password: str | None, *, field: str) -> User:
        """Return the caller's account if the password in a ``field`` is right, or the account has none and is recent.

        Raises `Malformed` without a password, `IncorrectPassword`, `SignInAgain`, `InvalidToken`, `LimitReached`,
        `Damaged`, `Unavailable`.
        """
        user = await self._find(caller)
        if user.content.password_hash is None:
            await self._check_recent(caller)
        elif password is None:
            raise Malformed(errors=(FieldError(field, "is required"),))
        else:
            await self._check_password(user, caller, password)
        return user

    async def confirm_either(self, caller: Caller, password: str | None) -> User:
        """Return the caller's account if the password is right, or none was sent and the session is recent.

        Raises `IncorrectPassword`, `SignInAgain`, `InvalidToken`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        user = await self._find(caller)
        if password is None or user.content.password_hash is None:
            await self._check_recent(caller)
        else:
            await self._check_password(user, caller, password)
        return user

    async def _find(self, caller: Caller) -> User:
        user = await self._users.find(caller.user_id)
        if user is None:
            raise InvalidToken
        return user

    async def _check_password(self, user: User, caller: Caller, password: str) -> None:
        async with self._authenticator.own_failures_counted(caller.session):
            if not await self._passwords.check(password, user.content.password_hash):
                raise IncorrectPassword

    async def _check_recent(self, caller: Caller) -> None:
        if not await self._sessions.has_signed_in_within(caller.user_id, caller.session, RECENT):
            raise SignInAgain
