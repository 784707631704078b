"""Making a sealed item, of whatever kind: what it may be, how long it lives, and the keys that its maker gets."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.clock import DatabaseClock
from ..core.crypto.hashing import HashingPool
from ..core.crypto.keys import KeyRing
from ..core.crypto.sealing import SALT_BYTES, Argon2Cost, Link, Sealer, derive_phrase_key
from ..core.lifetimes import checked_lifetime
from ..core.metrics import Metrics
from ..settings import Settings
from .items import KINDS, UNLIMITED, Item, Phrase
from .receipt_key import Receipt, write_receipt_key
from .store import ItemStore


@dataclass(frozen=True, repr=False)
class Created:
    """What the sender of a new item gets: the key for the reader, and the receipt key to keep."""

    link_key: str
    receipt_key: str
    expires_at: datetime


class ItemCreator:
    """Seals and stores new items."""

    def __init__(
        self,
        *,
        settings: Settings,
        ring: KeyRing,
        clock: DatabaseClock,
        hashing: HashingPool,
        items: ItemStore,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._ring = ring
        self._sealer = Sealer(ring)
        self._hashing = hashing
        self._items = items
        self._created = {kind: metrics.items.child(kind, "created") for kind in KINDS}

    async def create(
        self,
        kind: str,
        text: str,
        *,
        ttl: timedelta | None,
        phrase: str | None = None,
        max_opens: int = UNLIMITED,
        max_attempts: int = 0,
    ) -> Created:
        """Seal and store an item. Raises `Malformed` for a time to live out of bounds."""
        created_at = self._clock.now()
        expires_at = created_at + self._checked(ttl)
        link = Link.new()
        sealed_phrase, phrase_key = None, b""
        if phrase is not None:
            cost = Argon2Cost(self._settings.argon2_memory_kib, self._settings.argon2_passes)
            sealed_phrase = Phrase(secrets.token_bytes(SALT_BYTES), cost, max_attempts)
            phrase_key = await self._hashing.run("phrase", derive_phrase_key, phrase, sealed_phrase.salt, cost)
        item = Item(link.item_id, kind, created_at, expires_at, max_opens, max_opens or None, phrase=sealed_phrase)
        item.key_id, item.envelope = self._sealer.seal(
            text.encode(), link=link, terms=item.terms, phrase_key=phrase_key
        )
        await self._items.create(item)
        self._created[kind].inc()
        receipt = Receipt(link.item_id, created_at, expires_at)
        return Created(link.text, write_receipt_key(self._ring, receipt), expires_at)

    def _checked(self, ttl: timedelta | None) -> timedelta:
        if ttl is None:
            return timedelta(seconds=self._settings.default_ttl)
        return checked_lifetime(ttl, self._settings.ttl_limit)
