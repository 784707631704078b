"""The rules of messages: items that are read as often as asked until they expire."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.crypto.keys import KeyRing
from ..core.crypto.sealing import Link
from ..core.metrics import Metrics
from .creation import Created, ItemCreator
from .items import MESSAGE
from .problems import KeyNotFound
from .store import ItemStore
from .unsealing import Unsealer


@dataclass(frozen=True, repr=False)
class Read:
    """What the reader of a message gets."""

    message: str
    created_at: datetime
    expires_at: datetime


class MessageService:
    """Creates and reads messages."""

    def __init__(self, *, ring: KeyRing, creator: ItemCreator, items: ItemStore, metrics: Metrics) -> None:
        self._unsealer = Unsealer(ring, metrics.damaged)
        self._creator = creator
        self._items = items
        self._opened = metrics.items.child(MESSAGE, "opened")

    async def create(self, message: str, *, ttl: timedelta | None) -> Created:
        """Seal and store a message. Raises `Malformed` for a time to live out of bounds."""
        return await self._creator.create(MESSAGE, message, ttl=ttl)

    async def read(self, message_key: str) -> Read:
        """Return a message. Raises `KeyNotFound`, and `Damaged` for one that was changed in the database."""
        link = Link.parse(message_key)
        item = await self._items.find(link.item_id) if link else None
        # A secret has a limit of openings, and only its own way keeps it.
        if link is None or item is None or item.kind != MESSAGE:
            raise KeyNotFound
        self._unsealer.require_key(link, item)
        text = self._unsealer.open(link, item)
        self._opened.inc()
        return Read(text.decode(), item.created_at, item.expires_at)

    async def delete_expired(self) -> int:
        """Delete the items and tombstones that MongoDB would delete in its next TTL pass, and return how many."""
        return await self._items.delete_expired()
