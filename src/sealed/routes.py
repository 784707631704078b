"""Secrets over HTTP."""

from typing import Any

from aiohttp import web

from ..api.origin import Origin
from ..api.routing import Guard, Route, Shell
from ..errors import Damaged, TooMany
from .problems import IncorrectPhrase, KeyNotFound, PhraseRequired
from .schemas import CreateSecret, OpenSecret, SecretCreated, SecretOpened, SecretStatus
from .service import SecretService

SECRETS = "secrets"


class SecretRoutes:
    """The handlers and their declarations."""

    def __init__(self, service: SecretService, origin: Origin, create_guard: Guard | None, shell: Shell | None) -> None:
        self._service = service
        self._origin = origin
        self._create_guard = create_guard
        self._shell = shell

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/generate",
                tag=SECRETS,
                summary="Create a secret",
                description="The response contains the only copy of the secret key; the server does not store it.",
                guard=self._create_guard,
                handler=self.generate,
                body=CreateSecret,
                stores=True,
                answer=SecretCreated,
                status=201,
            ),
            Route(
                method="GET",
                path="/secrets/{secret_key}",
                tag=SECRETS,
                summary="Check a secret without opening it",
                description="Safe for link previews. Browsers receive an HTML page.",
                handler=self.status,
                answer=SecretStatus,
                shell=self._shell,
                problems=(KeyNotFound, Damaged),
            ),
            Route(
                method="POST",
                path="/secrets/{secret_key}",
                tag=SECRETS,
                summary="Open a secret",
                description="The last opening erases the secret before the response is sent. A wrong phrase costs one"
                " attempt, and the last failed attempt destroys the secret.",
                handler=self.open,
                body=OpenSecret,
                answer=SecretOpened,
                problems=(KeyNotFound, PhraseRequired, IncorrectPhrase, Damaged, TooMany),
            ),
        ]

    async def generate(self, request: web.Request, body: CreateSecret) -> SecretCreated:
        """Create a secret."""
        created = await self._service.create(
            body.secret,
            phrase=body.phrase,
            ttl=body.ttl.span if body.ttl else None,
            max_opens=body.max_opens,
            max_attempts=body.max_attempts,
        )
        return SecretCreated(
            secret_key=created.link_key,
            receipt_key=created.receipt_key,
            expires_at=created.expires_at,
            url=self._origin.link(request, f"/secrets/{created.link_key}"),
        )

    async def status(self, request: web.Request, _: None) -> SecretStatus:
        """Return the status of a secret without opening it."""
        item = await self._service.status(request.match_info["secret_key"])
        return SecretStatus(
            phrase_required=item.phrase is not None,
            opens_left=item.opens_left,
            created_at=item.created_at,
            expires_at=item.expires_at,
        )

    async def open(self, request: web.Request, body: OpenSecret) -> SecretOpened:
        """Open a secret."""
        opened = await self._service.open(request.match_info["secret_key"], body.phrase)
        return SecretOpened(secret=opened.secret, opens_left=opened.opens_left)
