"""Authentication by token: who is the caller of a request.

An `Authenticator` accepts access tokens and API tokens. Each worker looks an API token up at most once a second, so a
deleted one stops working within that second. All workers know of an ended session within two seconds (see `sessions`).
"""

import time
from dataclasses import dataclass
from enum import StrEnum

from ..core.metrics import Metrics, Stopwatch
from .access_tokens import AccessTokens
from .activity import Activity
from .api_tokens import PREFIX, ApiTokenStore, hash_api_token, is_api_token
from .problems import InsufficientScope, InvalidToken, NotOperator
from .sessions import EndedSessions
from .users import UserStore

__all__ = ["Authenticator", "Caller", "Scope", "describe_accepted_tokens", "is_api_token"]

TOKEN_LOOKUP_SECONDS = 1.0
MOST_LOOKUPS_KEPT = 10_000


class Scope(StrEnum):
    """What an API token gives access to."""

    SECRETS = "secrets"
    MESSAGES = "messages"
    POSTS = "posts"
    GATHER = "gather"
    ECHO = "echo"


@dataclass(frozen=True)
class Caller:
    """The user who makes a request, and the session or API token that authenticates it."""

    user_id: bytes
    session_id: bytes | None = None
    token_id: bytes | None = None
    scopes: frozenset[str] = frozenset()

    @property
    def session(self) -> bytes:
        """The id of the session of a caller who was admitted without an API token."""
        assert self.session_id is not None  # noqa: S101
        return self.session_id


class Authenticator:
    """Identifies callers by their tokens."""

    def __init__(
        self,
        *,
        access_tokens: AccessTokens,
        ended_sessions: EndedSessions,
        api_tokens: ApiTokenStore,
        users: UserStore,
        activity: Activity,
        metrics: Metrics,
    ) -> None:
        self._access_tokens = access_tokens
        self._ended_sessions = ended_sessions
        self._api_tokens = api_tokens
        self._users = users
        self._activity = activity
        self._lookups: dict[bytes, tuple[float, Caller]] = {}
        self._access_token_times = metrics.authentication.child("access_token")
        self._api_token_times = metrics.authentication.child("api_token")

    async def identify(self, token: str, scope: Scope | None) -> Caller:
        """Return the caller who sent an access token, or an API token with the scope; None admits no API token.

        Raises `InvalidToken`, `InsufficientScope`, and `Unavailable` if the database cannot tell.
        """
        with Stopwatch(self._api_token_times if token.startswith(PREFIX) else self._access_token_times):
            try:
                caller = await self._identified(token, scope)
            except InvalidToken:
                raise InvalidToken(f"{InvalidToken.default} {describe_accepted_tokens(scope)}") from None
        return caller

    async def confirm(self, user_id: bytes) -> None:
        """Raise `InvalidToken` if the account is gone: tokens stay valid for a while after its deletion.

        A feature calls this after it has stored something for a caller, and removes it on `InvalidToken`, because the
        deletion may already have passed.
        """
        if not await self._users.is_present(user_id):
            raise InvalidToken

    async def check_operator(self, caller: Caller) -> None:
        """Raise `NotOperator` unless the caller is an operator now, `InvalidToken` without an account, `Damaged`."""
        user = await self._users.find(caller.user_id)
        if user is None:
            raise InvalidToken
        if not user.content.operator or user.content.disabled:
            raise NotOperator

    async def _identified(self, token: str, scope: Scope | None) -> Caller:
        if token.startswith(PREFIX):
            caller = await self._holder(token)
            if scope is None or scope not in caller.scopes:
                raise InsufficientScope
        else:
            claims = self._access_tokens.read(token)
            if claims is None or await self._ended_sessions.contain(claims.session_id):
                raise InvalidToken
            caller = Caller(claims.user_id, session_id=claims.session_id)
        self._activity.note(caller.user_id, caller.token_id)
        return caller

    async def _holder(self, token: str) -> Caller:
        if not is_api_token(token):
            raise InvalidToken
        key, now = hash_api_token(token), time.monotonic()
        looked_up_at, caller = self._lookups.get(key, (float("-inf"), None))
        if caller is not None and now - looked_up_at < TOKEN_LOOKUP_SECONDS:
            return caller
        self._lookups.pop(key, None)
        found = await self._api_tokens.find(token)
        user = await self._users.find(found.content.user_id) if found else None
        if found is None or user is None or user.content.disabled:
            raise InvalidToken
        caller = Caller(user.user_id, token_id=found.token_id, scopes=frozenset(found.content.scopes))
        if len(self._lookups) >= MOST_LOOKUPS_KEPT:
            self._lookups.clear()
        # The time before the look-up: a token that is deleted during it is still accepted for no longer than a second.
        self._lookups[key] = (now, caller)
        return caller


def describe_accepted_tokens(scope: Scope | None) -> str:
    """Return the sentence that tells a client which tokens a request accepts."""
    return "This request requires an access token (POST /login or POST /refresh)" + (
        f" or an API token with the scope {scope.value} (POST /tokens)." if scope else "; no API token is accepted."
    )
