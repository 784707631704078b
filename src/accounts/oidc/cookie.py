"""The cookie that keeps a sign-in in progress in the browser in which it began.

`SameSite=Lax`, because the provider sends the browser back from another site.
"""

from aiohttp import web

from ...api.origin import Origin
from ..cookies import place_of
from .sign_in import LIFE

NAME = "sealpost-oidc"


class StateCookie:
    """Sets, reads and deletes the cookie."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def read(self, request: web.Request) -> str:
        """Return the value; empty without the cookie."""
        name, _, _ = place_of(self._origin, request, NAME)
        return request.cookies.get(name, "")

    def set(self, request: web.Request, response: web.StreamResponse, value: str) -> None:
        """Set the cookie."""
        self._write(request, response, value, int(LIFE.total_seconds()))

    def delete(self, request: web.Request, response: web.StreamResponse) -> None:
        """Delete the cookie: each sign-in is completed once."""
        self._write(request, response, "", 0)

    def _write(self, request: web.Request, response: web.StreamResponse, value: str, seconds: int) -> None:
        name, path, secure = place_of(self._origin, request, NAME)
        response.set_cookie(
            name, value, max_age=seconds, path=path, secure=secure or None, httponly=True, samesite="Lax"
        )
