"""Messages over HTTP."""

from typing import Any

from aiohttp import web

from ..api.origin import Origin
from ..api.pages import PageMaker
from ..api.routing import Guard, Route
from ..errors import Damaged
from .message_service import MessageService
from .problems import KeyNotFound
from .schemas import CreateMessage, Deleted, MessageAnswer, MessageCreated, MessageForm

MESSAGES = "messages"


class MessageRoutes:
    """The handlers and their declarations; ``page`` renders a message for browsers."""

    def __init__(
        self, service: MessageService, origin: Origin, create_guard: Guard | None, page: PageMaker | None
    ) -> None:
        self._service = service
        self._origin = origin
        self._create_guard = create_guard
        self._page = page

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="POST",
                path="/",
                tag=MESSAGES,
                summary="Create a message",
                description="The link in the response contains the only copy of the message key.",
                guard=self._create_guard,
                handler=self.create,
                body=CreateMessage,
                form=MessageForm,
                stores=True,
                answer=MessageCreated,
                status=201,
            ),
            Route(
                method="GET",
                path="/message/{message_key}",
                tag=MESSAGES,
                summary="Read a message",
                description="Any number of times until it expires. Browsers receive an HTML page.",
                handler=self.read,
                answer=MessageAnswer,
                page=self._page,
                problems=(KeyNotFound, Damaged),
            ),
            Route(
                method="POST",
                path="/delete",
                tag=MESSAGES,
                summary="Delete expired items now",
                description="Optional: expired items cannot be opened, and are deleted automatically within a minute or"
                " two.",
                handler=self.delete_expired,
                answer=Deleted,
            ),
        ]

    async def create(self, request: web.Request, body: CreateMessage) -> MessageCreated:
        """Create a message."""
        created = await self._service.create(body.message, ttl=body.ttl.span if body.ttl else None)
        return MessageCreated(
            url=self._origin.link(request, f"/message/{created.link_key}"),
            receipt_key=created.receipt_key,
            expires_at=created.expires_at,
        )

    async def read(self, request: web.Request, _: None) -> MessageAnswer:
        """Read a message."""
        read = await self._service.read(request.match_info["message_key"])
        return MessageAnswer(message=read.message, created_at=read.created_at, expires_at=read.expires_at)

    async def delete_expired(self, _: web.Request, __: None) -> Deleted:
        """Delete expired items now."""
        return Deleted(deleted=await self._service.delete_expired())
