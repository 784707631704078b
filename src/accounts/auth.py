"""Who is this? The one part of accounts that other features import.

`Authenticator.identify` answers for an access token and for an API token alike. An API token is looked up at most once
a second by each worker, so one that was deleted stops working within that second. A session that has ended is known to
every worker within two seconds (see `ended_sessions`).
"""

import time
from collections.abc import Iterable

from aiohttp import hdrs, web

from ..core.metrics import Metrics, Stopwatch
from ..errors import Damaged, Problem, Unauthorized
from .access_tokens import AccessTokens
from .activity import Activity
from .api_tokens import PREFIX, ApiTokenStore, hash_api_token, is_api_token
from .caller import Caller, Scope
from .ended_sessions import EndedSessions
from .identities import Authenticated, Identities, Identity
from .problems import (
    AccountDisabled,
    IncorrectCredentials,
    IncorrectPassword,
    InsufficientScope,
    InvalidToken,
    NotOperator,
    UsernameTaken,
)
from .schemas import GivenPassword, GivenUsername, Username
from .users import UserStore

__all__ = [
    "CALLER",
    "AccountDisabled",
    "Authenticated",
    "Authenticator",
    "Caller",
    "GivenPassword",
    "GivenUsername",
    "Identities",
    "Identity",
    "IncorrectCredentials",
    "IncorrectPassword",
    "InsufficientScope",
    "InvalidToken",
    "Scope",
    "Username",
    "UsernameTaken",
    "bearer_token",
    "is_api_token",
    "token_required",
]

TOKEN_LOOKUP_SECONDS = 1.0
MOST_LOOKUPS_KEPT = 10_000


CALLER = web.RequestKey("CALLER", Caller)


class Authenticator:
    """Answers who holds a token."""

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
        """Return who holds an access token, or an API token that has the scope; no API token does for ``None``.

        Raises `InvalidToken`, `InsufficientScope`, and `Unavailable` where it cannot be known.
        """
        with Stopwatch(self._api_token_times if token.startswith(PREFIX) else self._access_token_times):
            try:
                return await self._identified(token, scope)
            except InvalidToken:
                raise InvalidToken(f"{InvalidToken.default} {_accepted(scope)}") from None

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

    async def names(self, user_ids: Iterable[bytes]) -> dict[bytes, str]:
        """Return the names of users by id, those left out that are not there (any more) or cannot be read."""
        return await self._users.names(user_ids)

    async def user_id_of(self, username: str) -> bytes | None:
        """Return the id of a user by name, in whatever case; None where there is none, or none that can be read."""
        try:
            user = await self._users.find_by_name(username)
        except Damaged:
            return None
        return user.user_id if user else None

    async def confirm(self, caller: Caller) -> None:
        """Raise `InvalidToken` where the caller's account is gone: a token is believed for a while after.

        A feature asks this after it has stored something for the caller, and takes it back on `InvalidToken`: the
        deletion of the account may have come by before.
        """
        if not await self._users.is_present(caller.user_id):
            raise InvalidToken

    async def check_operator(self, caller: Caller) -> None:
        """Raise `NotOperator` unless the caller is one now, `InvalidToken` where the account is gone, and `Damaged`."""
        user = await self._users.find(caller.user_id)
        if user is None:
            raise InvalidToken
        if not user.content.operator or user.content.disabled:
            raise NotOperator

    def guard(self, scope: Scope | None) -> "BearerGuard":
        """Return what lets only requests with such a token through to a route."""
        return BearerGuard(self, scope)

    def operator_guard(self) -> "OperatorGuard":
        """Return what lets only the requests of signed-in operators through to a route."""
        return OperatorGuard(self)

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
        # The time before the look: what was deleted since then is believed for no longer than that second.
        self._lookups[key] = (now, caller)
        return caller


def bearer_token(authorization: str) -> str | None:
    """Return the token of an ``Authorization`` header (RFC 6750, section 2.1); None without one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def token_required(scope: Scope | None, *, where: str = "") -> Unauthorized:
    """Return the refusal of a request without a token; ``where`` names a field that may hold the token as well."""
    place = f"in {where} or as Authorization: Bearer <token>" if where else "as Authorization: Bearer <token>"
    return Unauthorized(f"{_accepted(scope)} Send it {place}.")


def _accepted(scope: Scope | None) -> str:
    return "This request requires an access token (POST /login or POST /refresh)" + (
        f" or an API token with the scope {scope.value} (POST /tokens)." if scope else "; no API token is accepted."
    )


class BearerGuard:
    """Lets requests through whose ``Authorization`` header holds a token that will do."""

    problems: tuple[type[Problem], ...] = (Unauthorized, InvalidToken, InsufficientScope)

    def __init__(self, authenticator: Authenticator, scope: Scope | None) -> None:
        self._authenticator = authenticator
        self._scope = scope
        self.scope: str | None = scope

    async def admit(self, request: web.Request) -> None:
        """Note the caller with the request. Raises `Unauthorized`, `InvalidToken`, `InsufficientScope`."""
        token = bearer_token(request.headers.get(hdrs.AUTHORIZATION, ""))
        if token is None:
            raise token_required(self._scope)
        request[CALLER] = await self._authenticator.identify(token, self._scope)


class OperatorGuard(BearerGuard):
    """Lets the requests of signed-in operators through; no API token does, whoever made it."""

    problems = (*BearerGuard.problems, NotOperator, Damaged)

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__(authenticator, None)

    async def admit(self, request: web.Request) -> None:
        """Note the caller with the request. Raises what `BearerGuard` raises, `NotOperator` and `Damaged`."""
        await super().admit(request)
        await self._authenticator.check_operator(request[CALLER])
