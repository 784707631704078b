"""The rules of accounts: registering, signing in and out, passwords, and going away."""

from dataclasses import dataclass

from ..core.clock import DatabaseClock
from ..core.metrics import Stopwatch
from .access_tokens import LIFE, AccessClaims, AccessTokens
from .caller import Caller
from .credentials import Credentials
from .deletion import AccountDeletion
from .ended_sessions import EndedSessions
from .problems import (
    IncorrectCredentials,
    IncorrectPassword,
    InvalidRefreshToken,
    InvalidToken,
    SessionNotFound,
)
from .refresh_tokens import RefreshToken
from .sessions import Session, SessionStore
from .users import User, UserStore


@dataclass(frozen=True, repr=False)
class TokenPair:
    """What a session lives by; ``expires_in`` is the access token's life in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str


class AccountService:
    """Everything that a user does with their own account, API tokens apart."""

    def __init__(
        self,
        *,
        clock: DatabaseClock,
        users: UserStore,
        sessions: SessionStore,
        ended_sessions: EndedSessions,
        access_tokens: AccessTokens,
        credentials: Credentials,
        deletion: AccountDeletion,
    ) -> None:
        self._clock = clock
        self._users = users
        self._sessions = sessions
        self._ended_sessions = ended_sessions
        self._access_tokens = access_tokens
        self._credentials = credentials
        self._deletion = deletion

    async def register(self, username: str, password: str, network: str) -> User:
        """Make an account. Raises `UsernameTaken`, `LimitReached`, `Unavailable`."""
        return await self._credentials.register(username, password, network)

    async def login(self, username: str, password: str, network: str) -> TokenPair:
        """Begin a session.

        Raises `IncorrectCredentials`, `AccountDisabled`, `LimitReached`, `Unavailable`.
        """
        with self._credentials.timed() as stopwatch:
            return await self._login(username, password, network, stopwatch)

    async def _login(self, username: str, password: str, network: str, stopwatch: Stopwatch) -> TokenPair:
        user = await self._credentials.verify(username, password, network, stopwatch)
        session, refresh_token = await self._sessions.start(user.user_id)
        if not await self._may_still_sign_in(user, password, stopwatch):
            # The session is there first: whoever ended all of them since the password was checked has ended it too.
            await self._sessions.end(user.user_id, session.session_id)
            raise IncorrectCredentials
        await self._sessions.end_surplus(user.user_id)
        return self._pair(session, refresh_token)

    async def refresh(self, refresh_token: str) -> TokenPair:
        """Go on with a session. Raises `InvalidRefreshToken`; a token that was used before ends its session."""
        token = RefreshToken.parse(refresh_token)
        refreshed = await self._sessions.refresh(token) if token else None
        if refreshed is None:
            raise InvalidRefreshToken
        return self._pair(*refreshed)

    async def logout(self, caller: Caller) -> None:
        """End the caller's session."""
        await self.end_session(caller, _session_id(caller))

    async def me(self, caller: Caller) -> User:
        """Return the caller's account. Raises `InvalidToken` where it is gone."""
        user = await self._users.find(caller.user_id)
        if user is None:
            raise InvalidToken
        return user

    async def change_password(self, caller: Caller, current: str, new: str) -> None:
        """Change the caller's password and end every other session.

        Raises `IncorrectPassword`, `InvalidToken`, `LimitReached`, `Unavailable`.
        """
        user = await self._with_password(caller, current)
        password_hash = await self._credentials.hash(new)
        while await self._users.change(user, password_hash=password_hash) is None:
            # Sealed anew under another key, say. Only another password is a reason to refuse.
            now = await self.me(caller)
            if now.content.password_hash != user.content.password_hash:
                raise IncorrectPassword
            user = now
        await self._sessions.end_all(user.user_id, but=caller.session_id)

    async def delete(self, caller: Caller, password: str) -> None:
        """Delete the caller's account with all that it wrote.

        Raises `IncorrectPassword`, `InvalidToken`, `LimitReached`, `Unavailable`.
        """
        user = await self._with_password(caller, password)
        await self._deletion.delete(user.user_id)
        self._ended_sessions.add(_session_id(caller))

    async def sessions(self, caller: Caller) -> list[Session]:
        """Return the caller's sessions, newest first."""
        return await self._sessions.live(caller.user_id)

    async def end_session(self, caller: Caller, session_id: bytes) -> None:
        """End one of the caller's sessions. Raises `SessionNotFound`."""
        if not await self._sessions.end(caller.user_id, session_id):
            raise SessionNotFound
        self._ended_sessions.add(session_id)

    async def _with_password(self, caller: Caller, password: str) -> User:
        user = await self.me(caller)
        async with self._credentials.own_failures_counted(_session_id(caller)):
            if not await self._credentials.fits(user, password):
                raise IncorrectPassword
        return user

    async def _may_still_sign_in(self, user: User, password: str, stopwatch: Stopwatch) -> bool:
        now = await self._users.note_login(user.user_id)
        if now is None or now.content.disabled:
            return False
        if now.content.password_hash == user.content.password_hash:
            return True
        with stopwatch.paused():
            return await self._credentials.fits(now, password)

    def _pair(self, session: Session, refresh_token: RefreshToken) -> TokenPair:
        issued_at = self._clock.now()
        expires_at = min(issued_at + LIFE, session.expires_at)
        claims = AccessClaims(session.user_id, session.session_id)
        access_token = self._access_tokens.write(claims, issued_at=issued_at, expires_at=expires_at)
        return TokenPair(access_token, int((expires_at - issued_at).total_seconds()), refresh_token.text)


def _session_id(caller: Caller) -> bytes:
    assert caller.session_id is not None  # noqa: S101 (an API token does not get through to accounts)
    return caller.session_id
