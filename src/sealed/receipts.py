"""The rules of receipts: what their holder learns of an item, of whatever kind, and may do to it."""

from dataclasses import dataclass
from datetime import datetime

from ..core.clock import DatabaseClock
from ..core.crypto.keys import KeyRing
from ..core.metrics import Metrics
from .items import KINDS, TOMBSTONE_LIFE, State
from .problems import KeyNotFound
from .receipt_key import read_receipt_key
from .store import ItemStore


@dataclass(frozen=True)
class Outcome:
    """What has become of an item.

    ``opens_left`` is None where there is no limit, ``failed_attempts`` once the item's document is gone.
    """

    state: State
    created_at: datetime
    expires_at: datetime
    opens_left: int | None
    opened_at: datetime | None = None
    failed_attempts: int | None = None


class ReceiptService:
    """Tells an item's fate and burns it."""

    def __init__(self, ring: KeyRing, clock: DatabaseClock, items: ItemStore, metrics: Metrics) -> None:
        self._ring = ring
        self._clock = clock
        self._burned = {kind: metrics.items.child(kind, "burned") for kind in KINDS}
        self._items = items

    async def outcome(self, receipt_key: str) -> Outcome:
        """Return what has become of an item. Raises `KeyNotFound` for a foreign key, and once nothing is known."""
        receipt = read_receipt_key(self._ring, receipt_key)
        if receipt is None:
            raise KeyNotFound
        item = await self._items.history(receipt.item_id)
        now = self._clock.now()
        if item is None:
            # Only what expired unopened leaves no tombstone, and tombstones go seven days after the expiry.
            if receipt.expires_at <= now < receipt.expires_at + TOMBSTONE_LIFE:
                return Outcome(State.EXPIRED, receipt.created_at, receipt.expires_at, 0)
            raise KeyNotFound
        expired = item.state is State.WAITING and item.expires_at <= now
        return Outcome(
            state=State.EXPIRED if expired else item.state,
            created_at=item.created_at,
            expires_at=item.expires_at,
            opens_left=0 if expired else item.opens_left,
            opened_at=item.opened_at,
            failed_attempts=item.failed_attempts,
        )

    async def burn(self, receipt_key: str) -> None:
        """Destroy a waiting item unopened. Raises `KeyNotFound` where there is nothing to destroy any more."""
        receipt = read_receipt_key(self._ring, receipt_key)
        kind = await self._items.burn(receipt.item_id) if receipt else None
        if kind is None:
            raise KeyNotFound
        # A kind that is none was written into the database by somebody else.
        if kind in self._burned:
            self._burned[kind].inc()
