"""Opening an item's envelope."""

from ..core.crypto.keys import KeyRing, is_key_id
from ..core.crypto.sealing import Link, Sealer, Unsealable
from ..core.metrics import Counter
from .damage import Damage
from .items import Item


class Unsealer:
    """Opens the envelopes of items with the keys of one ring; ``damaged`` counts those that do not open."""

    def __init__(self, ring: KeyRing, damaged: Counter) -> None:
        self._sealer = Sealer(ring)
        self._damage = Damage(damaged)

    def require_key(self, link: Link, item: Item) -> None:
        """Raise `Unavailable` for an item that was sealed with a key that is not in the ring.

        Raises `Damaged` where what stands in its place is no key's id.
        """
        if not is_key_id(item.key_id):
            raise self._damage.changed(link.item_id)
        if not self._sealer.holds(item.key_id):
            raise self._damage.without_key(link.item_id)

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
            raise self._damage.changed(link.item_id) from None
