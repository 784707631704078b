"""The rules of accounts: sessions, passwords, deletion, and API tokens."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import DatabaseClock
from ..core.metrics import Stopwatch
from .access_tokens import LIFE, AccessClaims, AccessTokens, RefreshToken
from .api_tokens import ApiToken, ApiTokenContent, ApiTokenStore, hash_api_token, new_api_token
from .auth import Caller, Scope
from .credentials import PasswordAuthenticator
from .deletion import AccountDeletion
from .passwords import Passwords
from .problems import (
    IncorrectCredentials,
    IncorrectPassword,
    InvalidRefreshToken,
    InvalidToken,
    SessionNotFound,
    TokenNotFound,
    TooManyTokens,
)
from .sessions import EndedSessions, Session, SessionStore
from .users import User, UserStore

MOST_TOKENS = 50
"""API tokens that one user may have."""


@dataclass(frozen=True, repr=False)
class TokenPair:
    """The tokens of a session; ``expires_in`` is the access token's lifetime in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str


class AccountService:
    """Logs users in and out, and changes or deletes their accounts."""

    def __init__(
        self,
        *,
        clock: DatabaseClock,
        users: UserStore,
        sessions: SessionStore,
        ended_sessions: EndedSessions,
        access_tokens: AccessTokens,
        authenticator: PasswordAuthenticator,
        passwords: Passwords,
        deletion: AccountDeletion,
        audit: Audit,
    ) -> None:
        self._clock = clock
        self._users = users
        self._sessions = sessions
        self._ended_sessions = ended_sessions
        self._access_tokens = access_tokens
        self._authenticator = authenticator
        self._passwords = passwords
        self._deletion = deletion
        self._audit = audit

    async def login(self, username: str, password: str, network: str) -> TokenPair:
        """Begin a session.

        Raises `IncorrectCredentials`, `AccountDisabled`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        with self._authenticator.timed() as stopwatch:
            user = await self._authenticator.verify(username, password, network, stopwatch)
            session, refresh_token = await self._sessions.start(user.user_id)
            if not await self._may_still_log_in(user, password, stopwatch):
                # The session is stored before this check. The check notices a password reset or a disabled account;
                # one that comes later ends all sessions, and thus this one.
                await self._sessions.end(user.user_id, session.session_id)
                raise IncorrectCredentials
            await self._sessions.end_surplus(user.user_id)
            self._audit.record(
                AuditEvent(kind=AuditKind.SIGNED_IN, user_id=user.user_id, method="password", network=network)
            )
            return self._pair(session, refresh_token)

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Return new tokens for a session. Raises `InvalidRefreshToken`; a token used twice ends its session."""
        token = RefreshToken.parse(refresh_token)
        refreshed = await self._sessions.refresh(token) if token else None
        if refreshed is None:
            raise InvalidRefreshToken
        return self._pair(*refreshed)

    async def find(self, caller: Caller) -> User:
        """Return the caller's account. Raises `InvalidToken` if it is gone, and `Damaged`."""
        user = await self._users.find(caller.user_id)
        if user is None:
            raise InvalidToken
        return user

    async def change_password(self, caller: Caller, current: str, new: str) -> None:
        """Change the caller's password and end every other session.

        Raises `IncorrectPassword`, `InvalidToken`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        user = await self._with_password(caller, current)
        password_hash = await self._passwords.hash(new)
        while await self._users.change(user, password_hash=password_hash) is None:
            # The user was sealed again meanwhile, under another key for example. Only a new password is a conflict.
            now = await self.find(caller)
            if now.content.password_hash != user.content.password_hash:
                raise IncorrectPassword
            user = now
        await self._sessions.end_all(user.user_id, but=caller.session_id)

    async def delete(self, caller: Caller, password: str) -> None:
        """Delete the caller's account and everything that it has written.

        Raises `IncorrectPassword`, `InvalidToken`, `LimitReached`, `Damaged`, `Unavailable`.
        """
        user = await self._with_password(caller, password)
        await self._deletion.delete(user.user_id)
        self._ended_sessions.add(session_of(caller))

    async def end_session(self, caller: Caller, session_id: bytes) -> None:
        """End one of the caller's sessions. Raises `SessionNotFound`."""
        if not await self._sessions.end(caller.user_id, session_id):
            raise SessionNotFound
        self._ended_sessions.add(session_id)

    async def _with_password(self, caller: Caller, password: str) -> User:
        user = await self.find(caller)
        async with self._authenticator.own_failures_counted(session_of(caller)):
            if not await self._passwords.check(password, user.content.password_hash):
                raise IncorrectPassword
        return user

    async def _may_still_log_in(self, user: User, password: str, stopwatch: Stopwatch) -> bool:
        now = await self._users.note_login(user.user_id)
        if now is None or now.content.disabled:
            return False
        if now.content.password_hash == user.content.password_hash:
            return True
        with stopwatch.paused():
            return await self._passwords.check(password, now.content.password_hash)

    def _pair(self, session: Session, refresh_token: RefreshToken) -> TokenPair:
        issued_at = self._clock.now()
        expires_at = min(issued_at + LIFE, session.expires_at)
        claims = AccessClaims(session.user_id, session.session_id)
        access_token = self._access_tokens.write(claims, issued_at=issued_at, expires_at=expires_at)
        return TokenPair(access_token, int((expires_at - issued_at).total_seconds()), refresh_token.text)


class ApiTokenService:
    """Creates and deletes API tokens of users."""

    def __init__(self, clock: DatabaseClock, tokens: ApiTokenStore, users: UserStore) -> None:
        self._clock = clock
        self._tokens = tokens
        self._users = users

    async def create(
        self, caller: Caller, *, name: str, scopes: Sequence[Scope], life: timedelta | None
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
        return token, text

    async def delete(self, caller: Caller, token_id: bytes) -> None:
        """Delete one of the caller's tokens. Raises `TokenNotFound`."""
        if not await self._tokens.remove(caller.user_id, token_id):
            raise TokenNotFound

    async def _add(self, content: ApiTokenContent) -> ApiToken:
        while slots := await self._tokens.free_slots(content.user_id, MOST_TOKENS):
            # A random slot, so that concurrent requests seldom collide.
            if token := await self._tokens.add(content, random.choice(slots)):  # noqa: S311 (no secret)
                return token
        raise TooManyTokens


def session_of(caller: Caller) -> bytes:
    """Return the id of a caller's session; the caller must have sent an access token."""
    assert caller.session_id is not None  # noqa: S101 (the routes of accounts admit no API token)
    return caller.session_id
