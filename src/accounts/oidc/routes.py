"""Sign-in through the provider over HTTP: the way there, and the way back."""

from typing import Any

from aiohttp import hdrs, web

from ...api.origin import Origin
from ...api.routing import Route
from ...core.database.limits import LimitReached
from ...errors import Damaged, Problem
from ..cookies import RefreshCookie
from ..problems import AccountDisabled
from .cookie import StateCookie
from .problems import InvalidSignIn, NotAdmitted, ProviderFaulty, ProviderUnavailable, SignInRefused
from .schemas import Callback
from .sign_in import Answer, ProviderSignIn

CALLBACK = "/oidc/callback"
PAGE = "/signin"
"""The view of the page that signs in."""


class OidcRoutes:
    """The routes of sign-in through the provider."""

    def __init__(self, sign_in: ProviderSignIn, refresh_cookie: RefreshCookie, origin: Origin, tag: str) -> None:
        self._sign_in = sign_in
        self._refresh_cookie = refresh_cookie
        self._cookie = StateCookie(origin)
        self._origin = origin
        self._tag = tag

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/oidc/start",
                tag=self._tag,
                summary="Sign in at the OpenID provider",
                description="For browsers: redirects to the provider and sets the cookie that the callback requires.",
                handler=self.start,
                status=302,
                problems=(ProviderUnavailable, ProviderFaulty),
            ),
            Route(
                method="GET",
                path=CALLBACK,
                tag=self._tag,
                summary="Complete a sign-in at the OpenID provider",
                description="For browsers: the provider redirects here. The first sign-in creates the account. Sets the"
                " refresh cookie and redirects to the page.",
                handler=self.callback,
                query=Callback,
                status=302,
                problems=(
                    InvalidSignIn,
                    SignInRefused,
                    NotAdmitted,
                    AccountDisabled,
                    LimitReached,
                    Damaged,
                    ProviderFaulty,
                    ProviderUnavailable,
                ),
            ),
        ]

    async def start(self, request: web.Request, _: None) -> web.Response:
        """Redirect to the provider."""
        url, state = await self._sign_in.begin(self._origin.link(request, CALLBACK))
        response = _redirect(url)
        self._cookie.set(request, response, state)
        return response

    async def callback(self, request: web.Request, query: Callback) -> web.Response:
        """Start a session and redirect to the page."""
        response = _redirect(self._origin.link(request, PAGE))
        self._cookie.delete(request, response)
        answer = Answer(state=query.state, code=query.code, error=query.error, issuer=query.iss)
        try:
            pair = await self._sign_in.complete(
                self._cookie.read(request),
                answer,
                redirect_uri=self._origin.link(request, CALLBACK),
                network=self._origin.network(request),
            )
        except Problem as problem:
            problem.headers[hdrs.SET_COOKIE] = response.cookies.output(header="").strip()
            raise
        self._refresh_cookie.set(request, response, pair)
        return response


def _redirect(url: str) -> web.Response:
    return web.Response(status=302, headers={hdrs.LOCATION: url})
