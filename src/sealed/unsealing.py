"""Opening envelopes and manifests, with a report of those that do not open."""

from ..core.crypto.keys import KeyRing, is_key_id
from ..core.crypto.sealing import Link, Sealer, Unsealable
from ..core.metrics import Counter
from .contents import Contents, FileEntry
from .holds import derive_claim_id
from .items import Item
from .manifests import ManifestSealer
from .problems import KeyNotFound
from .store import DamageReporter


class Unsealer:
    """Opens the envelopes and manifests of items with the keys of a ring; ``damaged`` counts those that do not open."""

    def __init__(self, ring: KeyRing, damaged: Counter) -> None:
        self._sealer = Sealer(ring)
        self._manifests = ManifestSealer(ring)
        self._damage = DamageReporter(damaged)

    def require_key(self, link: Link, item: Item) -> None:
        """Raise `Unavailable` if the ring lacks the item's key, and `Damaged` if the item names no valid key id."""
        if not is_key_id(item.key_id):
            raise self._damage.changed(link.item_id)
        if not self._sealer.holds(item.key_id):
            raise self._damage.without_key(link.item_id)

    def open(self, link: Link, item: Item, phrase_key: bytes = b"") -> Contents:
        """Return the content.

        Raises `Damaged` for an item that was changed in the database. With a phrase key it raises `Unsealable` instead,
        because such an item cannot be told from a wrong phrase.
        """
        try:
            plaintext = self._sealer.open(
                item.envelope, key_id=item.key_id, link=link, terms=item.terms, phrase_key=phrase_key
            )
        except Unsealable:
            if phrase_key:
                raise
            raise self._damage.changed(link.item_id) from None
        return Contents.from_bytes(plaintext, has_files=bool(item.files))

    def seal_manifest(self, link: Link, item: Item, files: tuple[FileEntry, ...], reader_key: bytes) -> bytes:
        """Return the manifest of an item's files for the reader who claims an opening."""
        claim_id = derive_claim_id(link, reader_key)
        return self._manifests.seal(files, link=link, reader_key=reader_key, claim_id=claim_id, item=item)

    def open_manifest(self, link: Link, item: Item, manifest: bytes, reader_key: bytes) -> tuple[FileEntry, ...]:
        """Return the entries of a held item's files. Raises `Damaged` for a manifest that was changed."""
        claim_id = derive_claim_id(link, reader_key)
        try:
            return self._manifests.open(manifest, link=link, reader_key=reader_key, claim_id=claim_id, item=item)
        except Unsealable:
            raise self._damage.changed(link.item_id) from None


def parse_link(key: str) -> Link:
    """Return the link with a key as a client sent it. Raises `KeyNotFound`."""
    link = Link.parse(key)
    if link is None:
        raise KeyNotFound
    return link
