"""Accounts, sessions and API tokens over HTTP."""

from datetime import timedelta
from typing import Any

from aiohttp import web

from ..api.origin import Origin
from ..api.routing import Route, id_of
from ..core.database.limits import LimitReached
from ..errors import Damaged
from .api_tokens import ApiToken, ApiTokenStore
from .auth import Scope
from .cookies import RefreshCookie
from .guards import CALLER, BearerGuard, LogoutGuard
from .problems import (
    AccountDisabled,
    IncorrectCredentials,
    IncorrectPassword,
    InvalidRefreshToken,
    LastWayToSignIn,
    RegistrationClosed,
    SessionNotFound,
    SignInAgain,
    TokenNotFound,
    TooManyTokens,
    UsernameTaken,
)
from .registration import Registration
from .schemas import (
    ChangePassword,
    CreateToken,
    DeleteAccount,
    Login,
    Me,
    Refresh,
    Register,
    Registered,
    RemovePassword,
    SessionAnswer,
    Sessions,
    TokenAnswer,
    TokenCreated,
    TokenList,
    Tokens,
)
from .service import AccountService, ApiTokenService
from .sessions import SessionStore
from .sign_in import SignIn

ACCOUNTS, SESSIONS, TOKENS = "accounts", "sessions", "tokens"


class AccountRoutes:
    """The routes of accounts and sessions."""

    def __init__(
        self,
        *,
        service: AccountService,
        registration: Registration,
        sessions: SessionStore,
        sign_in: SignIn,
        guard: BearerGuard,
        logout_guard: LogoutGuard,
        cookie: RefreshCookie,
        origin: Origin,
    ) -> None:
        self._service = service
        self._registration = registration
        self._sessions = sessions
        self._sign_in = sign_in
        self._guard = guard
        self._logout_guard = logout_guard
        self._cookie = cookie
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/register",
                tag=ACCOUNTS,
                summary="Create an account",
                handler=self.register,
                body=Register,
                stores=True,
                answer=Registered,
                status=201,
                problems=(RegistrationClosed, UsernameTaken, LimitReached),
            ),
            Route(
                method="POST",
                path="/login",
                tag=SESSIONS,
                summary="Sign in",
                description="Unknown users and wrong passwords get the same response after the same time.",
                handler=self.login,
                body=Login,
                answer=Tokens,
                problems=(IncorrectCredentials, AccountDisabled, LimitReached, Damaged),
            ),
            Route(
                method="POST",
                path="/refresh",
                tag=SESSIONS,
                summary="Refresh the tokens of a session",
                description="Each refresh token can be used once. Reuse ends the session. The previous refresh token in"
                " the cookie gets the same response again for 10 seconds.",
                handler=self.refresh,
                body=Refresh,
                answer=Tokens,
                problems=(InvalidRefreshToken,),
            ),
            Route(
                method="POST",
                path="/logout",
                tag=SESSIONS,
                summary="Sign out",
                description="Ends the session of the access token. If the refresh cookie is sent, the access token is"
                " optional; the session of the cookie ends as well, and the cookie is deleted.",
                guard=self._logout_guard,
                handler=self.logout,
                status=204,
                problems=(SessionNotFound,),
            ),
            Route(
                method="GET",
                path="/me",
                tag=ACCOUNTS,
                summary="Get your account",
                guard=self._guard,
                handler=self.me,
                answer=Me,
                problems=(Damaged,),
            ),
            Route(
                method="PUT",
                path="/me/password",
                tag=ACCOUNTS,
                summary="Change your password",
                description="Ends all other sessions. API tokens stay valid. Sets the first password of an account that"
                " has none; that requires a session that started in the last 10 minutes.",
                guard=self._guard,
                handler=self.change_password,
                body=ChangePassword,
                status=204,
                problems=(IncorrectPassword, SignInAgain, LimitReached, Damaged),
            ),
            Route(
                method="DELETE",
                path="/me/password",
                tag=ACCOUNTS,
                summary="Remove your password",
                description="Ends all other sessions. The account needs another way to sign in.",
                guard=self._guard,
                handler=self.remove_password,
                body=RemovePassword,
                status=204,
                problems=(IncorrectPassword, SignInAgain, LastWayToSignIn, LimitReached, Damaged),
            ),
            Route(
                method="DELETE",
                path="/me",
                tag=ACCOUNTS,
                summary="Delete your account and its content",
                description="Secrets belong to no account: they stay until they are opened or expire.",
                guard=self._guard,
                handler=self.delete,
                body=DeleteAccount,
                status=204,
                problems=(IncorrectPassword, SignInAgain, LimitReached, Damaged),
            ),
            Route(
                method="GET",
                path="/sessions",
                tag=SESSIONS,
                summary="List your sessions",
                guard=self._guard,
                handler=self.sessions,
                answer=Sessions,
            ),
            Route(
                method="DELETE",
                path="/sessions/{session_id}",
                path_parameters={"session_id": "The `id` of a session from GET /sessions."},
                tag=SESSIONS,
                summary="End one of your sessions",
                guard=self._guard,
                handler=self.end_session,
                status=204,
                problems=(SessionNotFound,),
            ),
        ]

    async def register(self, request: web.Request, body: Register) -> Registered:
        """Create an account."""
        user = await self._registration.register(
            body.username, body.password, body.invitation, self._origin.network(request)
        )
        return Registered(user_id=user.user_id.hex(), username=user.name)

    async def login(self, request: web.Request, body: Login) -> web.Response:
        """Start a session."""
        if body.cookie:
            self._cookie.check(request)
        pair = await self._service.login(body.username, body.password, self._origin.network(request))
        return self._cookie.answer(request, pair, as_cookie=body.cookie)

    async def refresh(self, request: web.Request, body: Refresh) -> web.Response:
        """Refresh the tokens of a session."""
        token = self._cookie.read(request) if body.cookie else body.refresh_token
        pair = await self._sign_in.refresh(token, repeatable=body.cookie)
        return self._cookie.answer(request, pair, as_cookie=body.cookie)

    async def logout(self, request: web.Request, _: None) -> web.Response | None:
        """End the session of this request, and that of its cookie."""
        network = self._origin.network(request)
        if caller := request.get(CALLER):
            await self._service.end_session(caller, caller.session, network)
        if not self._cookie.is_sent(request):
            return None
        await self._service.end_cookie_session(self._cookie.read(request), network)
        return self._cookie.cleared(request)

    async def me(self, request: web.Request, _: None) -> Me:
        """Return the caller's account."""
        user = await self._service.find(request[CALLER])
        return Me(
            user_id=user.user_id.hex(),
            username=user.name,
            operator=user.content.operator,
            sign_in=await self._service.ways(user),
            created_at=user.created_at,
            last_login_at=user.last_login_at,
            last_request_at=user.last_request_at,
        )

    async def change_password(self, request: web.Request, body: ChangePassword) -> None:
        """Change the caller's password."""
        await self._service.change_password(request[CALLER], body.current, body.new, self._origin.network(request))

    async def remove_password(self, request: web.Request, body: RemovePassword) -> None:
        """Remove the caller's password."""
        await self._service.remove_password(request[CALLER], body.current, self._origin.network(request))

    async def delete(self, request: web.Request, body: DeleteAccount) -> None:
        """Delete the caller's account and its content."""
        await self._service.delete(request[CALLER], body.password)

    async def sessions(self, request: web.Request, _: None) -> Sessions:
        """List the caller's sessions."""
        caller = request[CALLER]
        return Sessions(
            sessions=[
                SessionAnswer(
                    id=session.session_id.hex(),
                    created_at=session.created_at,
                    refreshed_at=session.refreshed_at,
                    expires_at=session.expires_at,
                    current=session.session_id == caller.session_id,
                )
                for session in await self._sessions.live(caller.user_id)
            ]
        )

    async def end_session(self, request: web.Request, _: None) -> None:
        """End one of the caller's sessions."""
        network = self._origin.network(request)
        await self._service.end_session(request[CALLER], id_of(request, "session_id"), network)


class ApiTokenRoutes:
    """The routes of API tokens."""

    def __init__(self, service: ApiTokenService, tokens: ApiTokenStore, guard: BearerGuard, origin: Origin) -> None:
        self._service = service
        self._tokens = tokens
        self._guard = guard
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/tokens",
                tag=TOKENS,
                summary="Create an API token",
                description="The response contains the only copy of the token.",
                guard=self._guard,
                handler=self.create,
                body=CreateToken,
                stores=True,
                answer=TokenCreated,
                status=201,
                problems=(TooManyTokens,),
            ),
            Route(
                method="GET",
                path="/tokens",
                tag=TOKENS,
                summary="List your API tokens",
                guard=self._guard,
                handler=self.list,
                answer=TokenList,
            ),
            Route(
                method="DELETE",
                path="/tokens/{token_id}",
                path_parameters={"token_id": "The `id` of an API token from GET /tokens."},
                tag=TOKENS,
                summary="Delete one of your API tokens",
                guard=self._guard,
                handler=self.delete,
                status=204,
                problems=(TokenNotFound,),
            ),
        ]

    async def create(self, request: web.Request, body: CreateToken) -> TokenCreated:
        """Create an API token."""
        life = timedelta(days=body.expires_in_days) if body.expires_in_days else None
        token, text = await self._service.create(
            request[CALLER], name=body.name, scopes=body.scopes, life=life, network=self._origin.network(request)
        )
        return TokenCreated(**_token(token).model_dump(), token=text)

    async def list(self, request: web.Request, _: None) -> TokenList:
        """List the caller's API tokens."""
        return TokenList(tokens=[_token(token) for token in await self._tokens.of_user(request[CALLER].user_id)])

    async def delete(self, request: web.Request, _: None) -> None:
        """Delete one of the caller's API tokens."""
        await self._service.delete(request[CALLER], id_of(request, "token_id"), self._origin.network(request))


def _token(token: ApiToken) -> TokenAnswer:
    return TokenAnswer(
        id=token.token_id.hex(),
        name=token.content.name,
        scopes=[Scope(scope) for scope in token.content.scopes],
        created_at=token.created_at,
        expires_at=token.content.expires_at,
        last_used_at=token.last_used_at,
    )
