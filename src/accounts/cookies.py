"""The refresh cookie: it carries the refresh token of a browser's session, out of the reach of scripts.

It is accepted only by requests to refresh or to end the session, and only from the page of this service itself.
"""

from datetime import timedelta
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import web

from ..api.origin import Origin
from ..api.routing import json_response
from ..errors import CrossSite
from .schemas import Tokens
from .sign_in import TokenPair

NAME = "sealpost"
SECURE_PREFIX = "__Host-"
"""Browsers accept a cookie with this prefix only over TLS, from the host itself, and for all of its paths."""


class RefreshCookie:
    """Sets, reads and clears the cookie. It lives as long as a session without a refresh."""

    def __init__(self, origin: Origin, life: timedelta) -> None:
        self._origin = origin
        self._life = life

    def check(self, request: web.Request) -> None:
        """Raise `CrossSite` unless the page of this service itself sent the request."""
        if not self._origin.is_same_origin(request):
            raise CrossSite("Only the page of this service can use the cookie. Other programs send `refresh_token`.")

    def is_sent(self, request: web.Request) -> bool:
        """Tell whether the request has the cookie."""
        return self._place(request)[0] in request.cookies

    def read(self, request: web.Request) -> str:
        """Return the refresh token in the cookie; empty without one. Raises `CrossSite`."""
        self.check(request)
        return request.cookies.get(self._place(request)[0], "")

    def answer(self, request: web.Request, pair: TokenPair, *, as_cookie: bool) -> web.Response:
        """Return the response with a session's tokens, of which the cookie or the body carries the refresh token."""
        tokens = Tokens(
            access_token=pair.access_token,
            expires_in=pair.expires_in,
            refresh_token=None if as_cookie else pair.refresh_token,
        )
        response = json_response(tokens.model_dump_json(exclude_none=True).encode())
        if as_cookie:
            self.set(request, response, pair)
        return response

    def set(self, request: web.Request, response: web.StreamResponse, pair: TokenPair) -> None:
        """Set the cookie to a session's refresh token."""
        self._write(request, response, pair.refresh_token, int(self._life.total_seconds()))

    def cleared(self, request: web.Request) -> web.Response:
        """Return a response without content that deletes the cookie."""
        response = web.Response(status=HTTPStatus.NO_CONTENT)
        self._write(request, response, "", 0)
        return response

    def _write(self, request: web.Request, response: web.StreamResponse, value: str, seconds: int) -> None:
        name, path, secure = self._place(request)
        response.set_cookie(
            name, value, max_age=seconds, path=path, secure=secure or None, httponly=True, samesite="Strict"
        )

    def _place(self, request: web.Request) -> tuple[str, str, bool]:
        return place_of(self._origin, request, NAME)


def place_of(origin: Origin, request: web.Request, name: str) -> tuple[str, str, bool]:
    """Return the full name and the path of a cookie, and whether it requires TLS."""
    url = urlsplit(origin.link(request, "/"))
    return (SECURE_PREFIX + name, "/", True) if url.scheme == "https" else (name, url.path, False)
