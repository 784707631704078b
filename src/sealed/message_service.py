"""The rules of messages: items that are read as often as asked until they expire."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from ..core.keys import KeyRing
from ..core.sealing import Link, Sealer, Unsealable
from ..errors import Damaged
from .creation import Created, ItemCreator
from .items import MESSAGE
from .problems import KeyNotFound
from .store import ItemStore

log = structlog.get_logger(__name__)


@dataclass(frozen=True, repr=False)
class Read:
    """What the reader of a message gets."""

    message: str
    created_at: datetime
    expires_at: datetime


class MessageService:
    """Creates and reads messages."""

    def __init__(self, ring: KeyRing, creator: ItemCreator, items: ItemStore) -> None:
        self._sealer = Sealer(ring)
        self._creator = creator
        self._items = items

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
        if not self._sealer.holds(item.key_id):
            log.error("the key that an item was sealed with is not in the ring", item_id=link.item_id.hex())
            raise Damaged
        try:
            text = self._sealer.open(item.envelope, key_id=item.key_id, link=link, terms=item.terms)
        except Unsealable:
            log.error("an item does not open: it was changed in the database", item_id=link.item_id.hex())
            raise Damaged from None
        return Read(text.decode(), item.created_at, item.expires_at)

    async def sweep(self) -> int:
        """Delete now what the database would delete at its next sweep, of every kind, and return how much it was."""
        return await self._items.sweep()
