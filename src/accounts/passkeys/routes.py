"""Passkeys over HTTP."""

from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from ...api.origin import Origin
from ...api.routing import Route, id_of
from ...core.database.limits import LimitReached
from ...errors import Damaged
from ..cookies import RefreshCookie
from ..guards import CALLER, BearerGuard
from ..problems import (
    AccountDisabled,
    IncorrectPassword,
    InvalidPasskey,
    LastWayToSignIn,
    PasskeyExists,
    PasskeyNotFound,
    PasskeyRefused,
    SignInAgain,
    TooManyPasskeys,
)
from ..schemas import Tokens
from .ceremonies import RelyingParty
from .schemas import (
    AddPasskey,
    AskForPasskey,
    DeletePasskey,
    PasskeyAnswer,
    PasskeyList,
    PasskeyLogin,
    PasskeyOptions,
    RenamePasskey,
)
from .service import PasskeyService
from .store import Passkey, PasskeyStore

PASSKEYS, SESSIONS = "passkeys", "sessions"
PATH_PARAMETERS = {"passkey_id": "The `id` of a passkey from GET /passkeys."}


class PasskeyRoutes:
    """The routes of passkeys; ``name`` is the service's name in the browser's dialogs."""

    def __init__(
        self,
        *,
        service: PasskeyService,
        passkeys: PasskeyStore,
        guard: BearerGuard,
        cookie: RefreshCookie,
        origin: Origin,
        name: str,
    ) -> None:
        self._service = service
        self._passkeys = passkeys
        self._guard = guard
        self._cookie = cookie
        self._origin = origin
        self._name = name

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/passkeys/options",
                tag=PASSKEYS,
                summary="Get options to create a passkey",
                guard=self._guard,
                handler=self.creation_options,
                body=AskForPasskey,
                answer=PasskeyOptions,
                problems=(IncorrectPassword, SignInAgain, TooManyPasskeys, LimitReached, Damaged),
            ),
            Route(
                method="POST",
                path="/passkeys",
                tag=PASSKEYS,
                summary="Add a passkey",
                guard=self._guard,
                handler=self.add,
                body=AddPasskey,
                stores=True,
                answer=PasskeyAnswer,
                status=201,
                problems=(InvalidPasskey, PasskeyExists, TooManyPasskeys),
            ),
            Route(
                method="GET",
                path="/passkeys",
                tag=PASSKEYS,
                summary="List your passkeys",
                guard=self._guard,
                handler=self.list,
                answer=PasskeyList,
            ),
            Route(
                method="PATCH",
                path="/passkeys/{passkey_id}",
                path_parameters=PATH_PARAMETERS,
                tag=PASSKEYS,
                summary="Rename one of your passkeys",
                guard=self._guard,
                handler=self.rename,
                body=RenamePasskey,
                answer=PasskeyAnswer,
                problems=(PasskeyNotFound,),
            ),
            Route(
                method="DELETE",
                path="/passkeys/{passkey_id}",
                path_parameters=PATH_PARAMETERS,
                tag=PASSKEYS,
                summary="Delete one of your passkeys",
                guard=self._guard,
                handler=self.delete,
                body=DeletePasskey,
                status=204,
                problems=(IncorrectPassword, SignInAgain, PasskeyNotFound, LastWayToSignIn, LimitReached, Damaged),
            ),
            Route(
                method="POST",
                path="/login/passkey/options",
                tag=SESSIONS,
                summary="Get options to sign in with a passkey",
                handler=self.request_options,
                answer=PasskeyOptions,
                needs_database=False,
            ),
            Route(
                method="POST",
                path="/login/passkey",
                tag=SESSIONS,
                summary="Sign in with a passkey",
                handler=self.login,
                body=PasskeyLogin,
                answer=Tokens,
                problems=(PasskeyRefused, AccountDisabled, LimitReached, Damaged),
            ),
        ]

    async def creation_options(self, request: web.Request, body: AskForPasskey) -> PasskeyOptions:
        """Return options to create a passkey."""
        challenge, options = await self._service.creation_options(request[CALLER], body.password, self._party(request))
        return PasskeyOptions(challenge=challenge, options=options)

    async def add(self, request: web.Request, body: AddPasskey) -> PasskeyAnswer:
        """Add a passkey."""
        passkey = await self._service.add(
            request[CALLER],
            self._party(request),
            challenge=body.challenge,
            name=body.name,
            credential=body.credential,
            network=self._origin.network(request),
        )
        return _passkey(passkey)

    async def list(self, request: web.Request, _: None) -> PasskeyList:
        """List the caller's passkeys."""
        passkeys = await self._passkeys.of_user(request[CALLER].user_id)
        return PasskeyList(passkeys=[_passkey(passkey) for passkey in passkeys])

    async def rename(self, request: web.Request, body: RenamePasskey) -> PasskeyAnswer:
        """Rename one of the caller's passkeys."""
        return _passkey(await self._service.rename(request[CALLER], id_of(request, "passkey_id"), body.name))

    async def delete(self, request: web.Request, body: DeletePasskey) -> None:
        """Delete one of the caller's passkeys."""
        network = self._origin.network(request)
        await self._service.remove(request[CALLER], id_of(request, "passkey_id"), body.password, network)

    async def request_options(self, request: web.Request, _: None) -> PasskeyOptions:
        """Return options to sign in."""
        challenge, options = self._service.request_options(self._party(request))
        return PasskeyOptions(challenge=challenge, options=options)

    async def login(self, request: web.Request, body: PasskeyLogin) -> web.Response:
        """Start a session."""
        if body.cookie:
            self._cookie.check(request)
        pair = await self._service.sign_in(
            self._party(request),
            challenge=body.challenge,
            credential=body.credential,
            network=self._origin.network(request),
        )
        return self._cookie.answer(request, pair, as_cookie=body.cookie)

    def _party(self, request: web.Request) -> RelyingParty:
        # Empty without a valid Host header, which matches no passkey.
        url = urlsplit(self._origin.link(request, "/"))
        default = {"http": ":80", "https": ":443"}.get(url.scheme, "")
        authority = url.netloc.lower().removesuffix(default)
        return RelyingParty(host=url.hostname or "", origin=f"{url.scheme}://{authority}", name=self._name)


def _passkey(passkey: Passkey) -> PasskeyAnswer:
    return PasskeyAnswer(
        id=passkey.passkey_id.hex(),
        name=passkey.content.name,
        created_at=passkey.created_at,
        last_used_at=passkey.last_used_at,
    )
