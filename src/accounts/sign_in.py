"""Sessions and their tokens: the last step of every way to sign in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import DatabaseClock
from .access_tokens import LIFE, AccessClaims, AccessTokens, RefreshToken
from .problems import InvalidRefreshToken
from .sessions import Session, SessionStore
from .users import User, UserStore


@dataclass(frozen=True, repr=False)
class TokenPair:
    """The tokens of a session; ``expires_in`` is the access token's lifetime in seconds."""

    access_token: str
    expires_in: int
    refresh_token: str


async def _always(_: User) -> bool:
    return True


class SignIn:
    """Starts and continues sessions."""

    def __init__(
        self,
        *,
        clock: DatabaseClock,
        users: UserStore,
        sessions: SessionStore,
        access_tokens: AccessTokens,
        audit: Audit,
    ) -> None:
        self._clock = clock
        self._users = users
        self._sessions = sessions
        self._access_tokens = access_tokens
        self._audit = audit

    async def start(
        self,
        user_id: bytes,
        *,
        method: str,
        network: str,
        signed_in_at: datetime | None = None,
        is_allowed: Callable[[User], Awaitable[bool]] = _always,
    ) -> TokenPair | None:
        """Start a session for a user who has signed in by a ``method``, as the audit names it, now or at a given time.

        Returns None if the account is gone or disabled by now, or is no longer allowed to sign in in this way.
        Raises `Damaged`, `Unavailable`.
        """
        session, refresh_token = await self._sessions.start(user_id, signed_in_at)
        user = await self._users.note_login(user_id)
        if user is None or user.content.disabled or not await is_allowed(user):
            # The session is stored before this check. The check notices a password reset or a disabled account; one
            # that comes later ends all sessions, and thus this one.
            await self._sessions.end(user_id, session.session_id)
            return None
        await self._sessions.end_surplus(user_id)
        self._audit.record(AuditEvent(kind=AuditKind.SIGNED_IN, user_id=user_id, method=method, network=network))
        return self._pair(session, refresh_token)

    async def refresh(self, refresh_token: str, *, repeatable: bool = False) -> TokenPair:
        """Return new tokens for a session, the same refresh token again shortly after a ``repeatable`` refresh.

        Raises `InvalidRefreshToken`; a token used twice ends its session.
        """
        token = RefreshToken.parse(refresh_token)
        refreshed = await self._sessions.refresh(token, repeatable=repeatable) if token else None
        if refreshed is None:
            raise InvalidRefreshToken
        return self._pair(*refreshed)

    def _pair(self, session: Session, refresh_token: RefreshToken) -> TokenPair:
        issued_at = self._clock.now()
        expires_at = min(issued_at + LIFE, session.expires_at)
        claims = AccessClaims(session.user_id, session.session_id)
        access_token = self._access_tokens.write(claims, issued_at=issued_at, expires_at=expires_at)
        return TokenPair(access_token, int((expires_at - issued_at).total_seconds()), refresh_token.text)
