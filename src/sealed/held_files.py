"""The files of a held opening: its reader, and no other, may download them until the hold ends."""

from dataclasses import dataclass
from datetime import timedelta

from ..core.clock import DatabaseClock
from ..core.stored_files import StoredFile
from ..errors import Unavailable
from .holds import HoldStore, derive_claim_id
from .problems import KeyNotFound
from .store import ItemStore
from .unsealing import Unsealer, parse_link

PROLONGED_BELOW = 3 / 4
"""A hold is prolonged when less than this part of it is left, so a long download writes rarely."""


@dataclass(frozen=True, repr=False)
class HeldFile:
    """A file that a reader may download: ``FileStorage.read(upload_key, file, …)`` returns its content.

    ``name`` and ``media_type`` are what the sender gave, unchecked; ``index`` is the position among the secret's files,
    from 0.
    """

    file: StoredFile
    upload_key: bytes
    name: str | None
    media_type: str | None
    index: int
    item_id: bytes
    claim_id: bytes


class HeldFiles:
    """Finds files for the readers who hold an opening; a hold lasts for ``duration`` from the last time it was kept."""

    def __init__(
        self, *, unsealer: Unsealer, items: ItemStore, holds: HoldStore, clock: DatabaseClock, duration: timedelta
    ) -> None:
        self._unsealer = unsealer
        self._items = items
        self._holds = holds
        self._clock = clock
        self._duration = duration

    async def find(self, secret_key: str, reader_key: bytes, file_id: bytes) -> HeldFile:
        """Return a file of a secret; ``file_id`` is the id of its upload.

        Raises `KeyNotFound` unless the reader with this key has opened the secret and its hold lasts, `Damaged` for a
        secret that was changed in the database, and `Unavailable`.
        """
        link = parse_link(secret_key)
        claim_id = derive_claim_id(link, reader_key)
        item = await self._items.history(link.item_id)
        hold = item.hold_of(claim_id) if item else None
        if item is None or hold is None or not item.is_held(hold, self._clock.now()):
            raise KeyNotFound
        index = next((index for index, file in enumerate(item.files) if file.upload_id == file_id), None)
        if index is None:
            raise KeyNotFound
        manifest = await self._holds.manifest(claim_id)
        if manifest is None:
            # The hold has just ended.
            raise Unavailable
        self._unsealer.require_key(link, item)
        entry = self._unsealer.open_manifest(link, item, manifest, reader_key)[index]
        return HeldFile(item.files[index], entry.key, entry.name, entry.type, index, link.item_id, claim_id)

    async def keep(self, held: HeldFile) -> bool:
        """Tell whether the opening is still held, and extend the hold once a quarter of it has passed.

        Raises `Damaged` and `Unavailable`.
        """
        item = await self._items.history(held.item_id)
        hold = item.hold_of(held.claim_id) if item else None
        now = self._clock.now()
        if item is None or hold is None or not item.is_held(hold, now):
            return False
        if hold.until >= item.expires_at or hold.until - now > self._duration * PROLONGED_BELOW:
            return True
        return await self._holds.prolong(held.item_id, held.claim_id)
