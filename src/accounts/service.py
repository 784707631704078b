"""The rules of accounts: sessions, passwords, deletion, and API tokens."""

import random
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import DatabaseClock
from ..core.metrics import Stopwatch
from .access_tokens import RefreshToken
from .api_tokens import ApiToken, ApiTokenContent, ApiTokenStore, hash_api_token, new_api_token
from .auth import Caller, Scope
from .credentials import PasswordAuthenticator
from .deletion import AccountDeletion
from .passwords import Passwords
from .problems import (
    IncorrectCredentials,
    IncorrectPassword,
    InvalidToken,
    SessionNotFound,
    TokenNotFound,
    TooManyTokens,
)
from .reauthentication import Reauthentication
from .sessions import EndedSessions, SessionStore
from .sign_in import SignIn, TokenPair
from .sign_in_ways import SignInWays, Way
from .users import User, UserStore

MOST_TOKENS = 50
"""API tokens that one user may have."""


class AccountService:
    """Logs users in and out, and changes or deletes their accounts."""

    def __init__(
        self,
        *,
        users: UserStore,
        sessions: SessionStore,
        ended_sessions: EndedSessions,
        sign_in: SignIn,
        authenticator: PasswordAuthenticator,
        reauthentication: Reauthentication,
        ways: SignInWays,
        passwords: Passwords,
        deletion: AccountDeletion,
        audit: Audit,
    ) -> None:
        self._users = users
        self._sessions = sessions
        self._ended_sessions = ended_sessions
        self._sign_in = sign_in
        self._authenticator = authenticator
        self._reauthentication = reauthentication
        self._ways = ways
        self._passwords = passwords
        self._deletion = deletion
        self._audit = audit

    async def login(self, username: str, password: str, network: str) -> TokenPair:
        """Begin a session.

        Raises `IncorrectCredentials`, `AccountDisabled`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        with self._authenticator.timed() as stopwatch:
            user = await self._authenticator.verify(username, password, network, stopwatch)
            pair = await self._sign_in.start(
                user.user_id,
                method="password",
                network=network,
                is_allowed=partial(self._has_password, user, password, stopwatch),
            )
            if pair is None:
                self._authenticator.record_failure(user, network)
                raise IncorrectCredentials
            return pair

    async def find(self, caller: Caller) -> User:
        """Return the caller's account. Raises `InvalidToken` if it is gone, and `Damaged`."""
        user = await self._users.find(caller.user_id)
        if user is None:
            raise InvalidToken
        return user

    async def change_password(self, caller: Caller, current: str | None, new: str, network: str) -> None:
        """Change the caller's password, or set the first one, and end every other session.

        Raises `Malformed` without the current password, `IncorrectPassword`, `SignInAgain`, `InvalidToken`,
        `LimitReached`, `Damaged`, `Unavailable`.
        """
        user = await self._reauthentication.confirm(caller, current, field="current")
        password_hash = await self._passwords.hash(new)
        while await self._users.change(user, password_hash=password_hash) is None:
            # The user was sealed again meanwhile, under another key for example. Only a new password is a conflict.
            now = await self.find(caller)
            if now.content.password_hash != user.content.password_hash:
                raise IncorrectPassword
            user = now
        self._record(AuditKind.PASSWORD_CHANGED, user.user_id, network)
        await self._sessions.end_all(user.user_id, but=caller.session_id)

    async def remove_password(self, caller: Caller, current: str | None, network: str) -> None:
        """Remove the caller's password and end every other session; an account without a password stays as it is.

        Raises `LastWayToSignIn`, and the errors of `change_password`.
        """
        user = await self._reauthentication.confirm(caller, current, field="current")
        if user.content.password_hash is None:
            return

        async def removal(session: Any) -> None:
            now = await self._users.find_in(user.user_id, session)
            if now is None or now.content.password_hash != user.content.password_hash:
                raise IncorrectPassword
            await self._users.change_in(now, session, password_hash=None)

        await self._ways.remove(user.user_id, removal)
        self._record(AuditKind.PASSWORD_CHANGED, user.user_id, network)
        await self._sessions.end_all(user.user_id, but=caller.session_id)

    async def delete(self, caller: Caller, password: str | None) -> None:
        """Delete the caller's account and everything that it has written.

        Raises `Malformed` without the password, `IncorrectPassword`, `SignInAgain`, `InvalidToken`, `LimitReached`,
        `Damaged`, `Unavailable`.
        """
        user = await self._reauthentication.confirm(caller, password, field="password")
        await self._deletion.delete(user.user_id)
        self._ended_sessions.add(caller.session)

    async def ways(self, user: User) -> list[Way]:
        """Return the ways in which an account can sign in."""
        return await self._ways.of(user)

    async def end_cookie_session(self, refresh_token: str, network: str) -> None:
        """End the session of a refresh token, if there is one."""
        token = RefreshToken.parse(refresh_token)
        session = await self._sessions.find(token) if token else None
        if session and await self._sessions.end(session.user_id, session.session_id):
            self._ended_sessions.add(session.session_id)
            self._record(AuditKind.SIGNED_OUT, session.user_id, network)

    async def end_session(self, caller: Caller, session_id: bytes, network: str) -> None:
        """End one of the caller's sessions. Raises `SessionNotFound`."""
        if not await self._sessions.end(caller.user_id, session_id):
            raise SessionNotFound
        self._ended_sessions.add(session_id)
        self._record(AuditKind.SIGNED_OUT, caller.user_id, network)

    def _record(self, kind: AuditKind, user_id: bytes, network: str) -> None:
        self._audit.record(AuditEvent(kind=kind, user_id=user_id, network=network))

    async def _has_password(self, before: User, password: str, stopwatch: Stopwatch, now: User) -> bool:
        if now.content.password_hash == before.content.password_hash:
            return True
        with stopwatch.paused():
            return await self._passwords.check(password, now.content.password_hash)


class ApiTokenService:
    """Creates and deletes API tokens of users."""

    def __init__(self, clock: DatabaseClock, tokens: ApiTokenStore, users: UserStore, audit: Audit) -> None:
        self._clock = clock
        self._tokens = tokens
        self._users = users
        self._audit = audit

    async def create(
        self, caller: Caller, *, name: str, scopes: Sequence[Scope], life: timedelta | None, network: str
    ) -> tuple[ApiToken, str]:
        """Create a token and return it with its text, which is not stored.

        Raises `TooManyTokens`, and `InvalidToken` if the caller's account is gone.
        """
        text = new_api_token()
        content = ApiTokenContent(
            user_id=caller.user_id,
            hash=hash_api_token(text),
            name=name,
            scopes=tuple(sorted(scopes)),
            expires_at=self._clock.now() + life if life else None,
        )
        token = await self._add(content)
        if not await self._users.is_present(caller.user_id):
            # The account was deleted meanwhile, and its tokens perhaps before this one was stored.
            await self._tokens.remove_all(caller.user_id)
            raise InvalidToken
        self._record(AuditKind.API_TOKEN_CREATED, caller, network)
        return token, text

    async def delete(self, caller: Caller, token_id: bytes, network: str) -> None:
        """Delete one of the caller's tokens. Raises `TokenNotFound`."""
        if not await self._tokens.remove(caller.user_id, token_id):
            raise TokenNotFound
        self._record(AuditKind.API_TOKEN_DELETED, caller, network)

    def _record(self, kind: AuditKind, caller: Caller, network: str) -> None:
        self._audit.record(AuditEvent(kind=kind, user_id=caller.user_id, network=network))

    async def _add(self, content: ApiTokenContent) -> ApiToken:
        while slots := await self._tokens.free_slots(content.user_id, MOST_TOKENS):
            # A random slot, so that concurrent requests seldom collide.
            if token := await self._tokens.add(content, random.choice(slots)):  # noqa: S311 (no secret)
                return token
        raise TooManyTokens
