"""The rules of opening messages: any number of times until they expire."""

from dataclasses import dataclass
from datetime import datetime

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.metrics import Metrics
from .items import MESSAGE
from .problems import KeyNotFound
from .store import ItemStore
from .unsealing import Unsealer, parse_link


@dataclass(frozen=True, repr=False)
class OpenedMessage:
    """A message and its times."""

    message: str
    created_at: datetime
    expires_at: datetime


class MessageService:
    """Reads messages."""

    def __init__(self, *, unsealer: Unsealer, items: ItemStore, metrics: Metrics, audit: Audit) -> None:
        self._unsealer = unsealer
        self._items = items
        self._audit = audit
        self._opened = metrics.items.child(MESSAGE, "opened")

    async def read(self, message_key: str, network: str | None = None) -> OpenedMessage:
        """Return a message; ``network`` is the reader's, for the audit.

        Raises `KeyNotFound`, `Damaged` for one that was changed in the database, and `Unavailable` without its key.
        """
        link = parse_link(message_key)
        item = await self._items.find(link.item_id)
        # A secret has a limit of openings, which only `SecretService.open` enforces.
        if item is None or item.kind != MESSAGE:
            raise KeyNotFound
        self._unsealer.require_key(link, item)
        contents = self._unsealer.open(link, item)
        self._opened.inc()
        self._audit.record(AuditEvent(kind=AuditKind.ITEM_OPENED, item_id=link.item_id, network=network))
        return OpenedMessage(contents.text, item.created_at, item.expires_at)
