"""Secrets, messages and receipts over HTTP."""

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from ..accounts.auth import Scope
from ..accounts.guards import CALLER, token_required
from ..api.origin import Origin
from ..api.pages import PageMaker
from ..api.routing import Guard, Route, Shell, allow_seconds
from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.crypto.sealing import decode, encode
from ..core.stored_files import TAKING_SECONDS
from ..errors import Damaged, FieldError, Malformed, TooMany
from .contents import FileEntry
from .creation import CreatedItem, ItemCreator
from .items import MESSAGE, SECRET
from .messages import MessageService
from .problems import IncorrectPhrase, KeyNotFound, PhraseRequired
from .receipts import ReceiptService, ReceiptStatus
from .schemas import (
    CreateMessage,
    CreateSecret,
    Deleted,
    MessageAnswer,
    MessageCreated,
    MessageForm,
    OpenedFile,
    OpenSecret,
    ReceiptAnswer,
    SecretCreated,
    SecretOpened,
    SecretReceived,
    SecretStatus,
)
from .service import SecretService
from .store import ItemStore

SECRETS, MESSAGES, RECEIPTS = "secrets", "messages", "receipts"
_SECRET_KEY = {"secret_key": "The `secret_key` in the response to POST /generate."}
_MESSAGE_KEY = {"message_key": "The last 43 characters of the `url` in the response to POST /."}
_RECEIPT_KEY = {"receipt_key": "The `receipt_key` in the response to POST /generate or POST /."}


class SecretRoutes:
    """The routes of secrets; ``shell`` answers a browser that asks for a secret's status."""

    def __init__(
        self,
        *,
        creator: ItemCreator,
        service: SecretService,
        origin: Origin,
        audit: Audit,
        create_guard: Guard | None,
        shell: Shell | None,
    ) -> None:
        self._audit = audit
        self._creator = creator
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
                description="The response contains the only copy of the secret key; the server does not store it. Each"
                " upload becomes a file of one secret.",
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
                path_parameters=_SECRET_KEY,
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
                path_parameters=_SECRET_KEY,
                tag=SECRETS,
                summary="Open a secret",
                description="The last opening erases the secret before the response is sent. A wrong phrase costs one"
                " attempt, and the last failed attempt destroys the secret. With a reader's key, the same request gets"
                " the same response until held_until. The files can be downloaded until then.",
                handler=self.open,
                body=OpenSecret,
                answer=SecretOpened,
                problems=(KeyNotFound, PhraseRequired, IncorrectPhrase, Damaged, TooMany),
            ),
            Route(
                method="POST",
                path="/secrets/{secret_key}/received",
                path_parameters=_SECRET_KEY,
                tag=SECRETS,
                summary="Confirm that the text has arrived",
                description="After this, the reader's key opens nothing and downloads nothing. Files are erased unless"
                " another reader may still download them. May be repeated.",
                handler=self.receive,
                body=SecretReceived,
                status=204,
                problems=(KeyNotFound,),
            ),
        ]

    async def generate(self, request: web.Request, body: CreateSecret) -> SecretCreated:
        """Create a secret."""
        if body.files:
            allow_seconds(request, TAKING_SECONDS)
        created = await self._creator.create(
            SECRET,
            body.secret,
            phrase=body.phrase,
            ttl=body.ttl.span if body.ttl else None,
            max_opens=body.max_opens,
            max_attempts=body.max_attempts,
            files=[FileEntry(key=decode(file.upload) or b"", name=file.name, type=file.type) for file in body.files],
            keeper=_keeper(request, self._create_guard, Scope.SECRETS) if body.keep else None,
        )
        _record(self._audit, request, created, self._origin)
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
            **_totals([file.size for file in item.files]),
        )

    async def open(self, request: web.Request, body: OpenSecret) -> SecretOpened:
        """Open a secret."""
        reader_key = decode(body.reader) if body.reader else None
        network = self._origin.network(request)
        opened = await self._service.open(request.match_info["secret_key"], body.phrase, reader_key, network)
        files = [
            OpenedFile(id=file.upload_id.hex(), size=file.size, name=entry.name, type=entry.type)
            for file, entry in opened.files
        ]
        return SecretOpened(
            secret=opened.secret,
            opens_left=opened.opens_left,
            held_until=opened.held_until,
            files=files or None,
            reader=encode(opened.reader_key) if opened.reader_key else None,
        )

    async def receive(self, request: web.Request, body: SecretReceived) -> None:
        """Confirm that the text has arrived."""
        await self._service.receive(request.match_info["secret_key"], decode(body.reader) or b"")


class MessageRoutes:
    """The routes of messages; ``page`` renders a message for a browser."""

    def __init__(
        self,
        *,
        creator: ItemCreator,
        service: MessageService,
        items: ItemStore,
        origin: Origin,
        audit: Audit,
        create_guard: Guard | None,
        page: PageMaker | None,
    ) -> None:
        self._audit = audit
        self._creator = creator
        self._service = service
        self._items = items
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
                path_parameters=_MESSAGE_KEY,
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
        created = await self._creator.create(
            MESSAGE,
            body.message,
            ttl=body.ttl.span if body.ttl else None,
            keeper=_keeper(request, self._create_guard, Scope.MESSAGES) if body.keep else None,
        )
        _record(self._audit, request, created, self._origin)
        return MessageCreated(
            url=self._origin.link(request, f"/message/{created.link_key}"),
            receipt_key=created.receipt_key,
            expires_at=created.expires_at,
        )

    async def read(self, request: web.Request, _: None) -> MessageAnswer:
        """Read a message."""
        read = await self._service.read(request.match_info["message_key"], self._origin.network(request))
        return MessageAnswer(message=read.message, created_at=read.created_at, expires_at=read.expires_at)

    async def delete_expired(self, _: web.Request, __: None) -> Deleted:
        """Delete expired items now."""
        return Deleted(deleted=await self._items.delete_expired())


class ReceiptRoutes:
    """The routes of receipts, which are the same for secrets and messages."""

    def __init__(self, service: ReceiptService, origin: Origin) -> None:
        self._service = service
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/receipts/{receipt_key}",
                path_parameters=_RECEIPT_KEY,
                tag=RECEIPTS,
                summary="Get the state of a secret or message",
                handler=self.receipt,
                answer=ReceiptAnswer,
                problems=(KeyNotFound, Damaged),
            ),
            Route(
                method="DELETE",
                path="/receipts/{receipt_key}",
                path_parameters=_RECEIPT_KEY,
                tag=RECEIPTS,
                summary="Burn a secret or message",
                handler=self.burn,
                status=204,
                problems=(KeyNotFound,),
            ),
        ]

    async def receipt(self, request: web.Request, _: None) -> ReceiptAnswer:
        """Return the state of an item."""
        status = await self._service.status(request.match_info["receipt_key"])
        return ReceiptAnswer(**receipt_fields(status))

    async def burn(self, request: web.Request, _: None) -> None:
        """Burn an item."""
        await self._service.burn(request.match_info["receipt_key"], self._origin.network(request))


def _record(audit: Audit, request: web.Request, created: CreatedItem, origin: Origin) -> None:
    """Record an item that a signed-in user has created."""
    if caller := request.get(CALLER):
        network = origin.network(request)
        audit.record(
            AuditEvent(kind=AuditKind.ITEM_CREATED, user_id=caller.user_id, item_id=created.item_id, network=network)
        )


def receipt_fields(status: ReceiptStatus) -> dict[str, Any]:
    """Return the fields of an answer about the state of an item."""
    return {
        "state": status.state,
        "created_at": status.created_at,
        "expires_at": status.expires_at,
        "opened_at": status.opened_at,
        "received_at": status.received_at,
        "opens_left": status.opens_left,
        "failed_attempts": status.failed_attempts,
        "late_attempts": status.late_attempts,
        "last_late_at": status.last_late_at,
        **_totals(status.file_sizes),
    }


def _keeper(request: web.Request, guard: Guard | None, scope: Scope) -> bytes:
    """Return the id of the user who makes a request.

    Raises `Unauthorized` without a token, and `Malformed` on a server without accounts, which has no ``guard``.
    """
    if guard is None:
        raise Malformed(errors=(FieldError("keep", "must be false, because this server has no accounts"),))
    if CALLER not in request:
        raise token_required(scope)
    return request[CALLER].user_id


def _totals(sizes: Sequence[int]) -> dict[str, int]:
    """Return the fields of an answer about an item with files of these sizes."""
    return {"files": len(sizes), "files_bytes": sum(sizes)} if sizes else {}
