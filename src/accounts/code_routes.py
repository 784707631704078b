"""Sign-in codes over HTTP."""

from typing import Any

from aiohttp import web

from ..api.origin import Origin
from ..api.routing import Route
from ..core.crypto.sealing import decode
from ..core.database.limits import LimitReached
from ..errors import Damaged
from .codes import LIFE, SignInCodes
from .cookies import RefreshCookie
from .guards import CALLER, BearerGuard
from .problems import InvalidCode
from .schemas import CodeAnswer, CodeLogin, CreateCode, Tokens

SESSIONS = "sessions"


class CodeRoutes:
    """The routes of sign-in codes."""

    def __init__(self, codes: SignInCodes, guard: BearerGuard, cookie: RefreshCookie, origin: Origin) -> None:
        self._codes = codes
        self._guard = guard
        self._cookie = cookie
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/login/codes",
                tag=SESSIONS,
                summary="Get a code that signs a program in",
                description="The program chooses a random verifier and passes on its SHA-256, the challenge. It gets a"
                " session of its own with POST /login/code.",
                guard=self._guard,
                handler=self.create,
                body=CreateCode,
                answer=CodeAnswer,
                status=201,
                problems=(LimitReached,),
            ),
            Route(
                method="POST",
                path="/login/code",
                tag=SESSIONS,
                summary="Sign in with a code",
                handler=self.login,
                body=CodeLogin,
                answer=Tokens,
                problems=(InvalidCode, LimitReached, Damaged),
            ),
        ]

    async def create(self, request: web.Request, body: CreateCode) -> CodeAnswer:
        """Return a code."""
        code = await self._codes.issue(request[CALLER], decode(body.challenge) or b"")
        return CodeAnswer(code=code, expires_in=int(LIFE.total_seconds()))

    async def login(self, request: web.Request, body: CodeLogin) -> web.Response:
        """Start a session."""
        if body.cookie:
            self._cookie.check(request)
        pair = await self._codes.exchange(body.code, body.verifier, self._origin.network(request))
        return self._cookie.answer(request, pair, as_cookie=body.cookie)
