"""Guards: they admit a request to a route by the token in its ``Authorization`` header."""

from aiohttp import hdrs, web

from ..errors import Damaged, Problem, Unauthorized
from .auth import Authenticator, Caller, Scope, describe_accepted_tokens
from .cookies import RefreshCookie
from .problems import InsufficientScope, InvalidToken, NotOperator

CALLER = web.RequestKey("CALLER", Caller)
"""The caller of a request that a guard has admitted."""


class BearerGuard:
    """Admits requests with an access token, or with an API token that has the scope.

    Unless a token ``is_required``, it also admits requests without one, which then have no `CALLER`. A header with
    another scheme, such as Basic for a proxy in front of this service, is no token.
    """

    problems: tuple[type[Problem], ...] = (Unauthorized, InvalidToken, InsufficientScope)

    def __init__(self, authenticator: Authenticator, scope: Scope | None, *, is_required: bool = True) -> None:
        self._authenticator = authenticator
        self._scope = scope
        self.scope: str | None = scope
        self.is_required = is_required

    async def admit(self, request: web.Request) -> None:
        """Set the request's `CALLER`. Raises `Unauthorized`, `InvalidToken`, `InsufficientScope`, `Unavailable`."""
        token = bearer_token(request.headers.get(hdrs.AUTHORIZATION, ""))
        if token is None:
            if self.is_required:
                raise token_required(self._scope)
            return
        request[CALLER] = await self._authenticator.identify(token, self._scope)


class OperatorGuard(BearerGuard):
    """Admits requests with the access token of an operator; an API token never suffices."""

    problems = (*BearerGuard.problems, NotOperator, Damaged)

    def __init__(self, authenticator: Authenticator) -> None:
        super().__init__(authenticator, None)

    async def admit(self, request: web.Request) -> None:
        """Set the request's `CALLER`. Also raises `NotOperator` and `Damaged`."""
        await super().admit(request)
        await self._authenticator.check_operator(request[CALLER])


class LogoutGuard(BearerGuard):
    """Admits requests with an access token, as `BearerGuard` does, or with the refresh cookie and without `CALLER`."""

    def __init__(self, authenticator: Authenticator, cookie: RefreshCookie) -> None:
        super().__init__(authenticator, None)
        self._cookie = cookie

    async def admit(self, request: web.Request) -> None:
        """Admit the request. Also raises `CrossSite`."""
        has_cookie = self._cookie.is_sent(request)
        if has_cookie:
            self._cookie.check(request)
        if hdrs.AUTHORIZATION in request.headers or not has_cookie:
            await super().admit(request)


def bearer_token(authorization: str) -> str | None:
    """Return the token of an ``Authorization`` header (RFC 6750, section 2.1); None without one."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def token_required(scope: Scope | None, *, where: str = "") -> Unauthorized:
    """Return the error for a request without a token; ``where`` names a body field that may hold the token too."""
    place = f"in {where} or as Authorization: Bearer <token>" if where else "as Authorization: Bearer <token>"
    return Unauthorized(f"{describe_accepted_tokens(scope)} Send it {place}.")
