"""Opening an item's envelope, and saying in the log why one does not open."""

import structlog

from ..core.keys import KeyRing
from ..core.metrics import Counter
from ..core.sealing import Link, Sealer, Unsealable
from ..errors import Damaged
from .items import Item

log = structlog.get_logger(__name__)


class Unsealer:
    """Opens the envelopes of items with the keys of one ring; ``damaged`` counts those that do not open."""

    def __init__(self, ring: KeyRing, damaged: Counter) -> None:
        self._sealer = Sealer(ring)
        self._damaged = damaged

    def require_key(self, link: Link, item: Item) -> None:
        """Raise `Damaged` for an item that was sealed with a key that is not in the ring."""
        if not self._sealer.holds(item.key_id):
            self._damaged.inc()
            log.error("the key that an item was sealed with is not in the ring", item_id=link.item_id.hex())
            raise Damaged

    def open(self, link: Link, item: Item, phrase_key: bytes = b"") -> bytes:
        """Return the plaintext.

        Raises `Damaged` for an item that was changed in the database, and `Unsealable` where a phrase was tried: it
        cannot be told from a wrong one.
        """
        try:
            return self._sealer.open(
                item.envelope, key_id=item.key_id, link=link, terms=item.terms, phrase_key=phrase_key
            )
        except Unsealable:
            if phrase_key:
                raise
            self._damaged.inc()
            log.error("an item does not open: it was changed in the database", item_id=link.item_id.hex())
            raise Damaged from None
