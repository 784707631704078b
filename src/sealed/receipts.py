"""Receipts: the sender's key for following an item's state and for burning the item.

A receipt key is ``version (1 byte) ‖ item id (16) ‖ created at (6) ‖ expires at (6) ‖ HMAC-SHA256, first 16 bytes``,
times in milliseconds since 1970, in URL-safe base64: 60 characters. It needs no record of its own, and it still gives
the item's times after the item is gone. It opens nothing: the item id is a hash of the link key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import EPOCH, DatabaseClock, milliseconds
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.sealing import ID_BYTES, decode, encode
from ..core.metrics import Metrics
from ..lenient_keys import find_key
from .ended_files import EndedFiles
from .holds import HoldStore
from .items import KINDS, TOMBSTONE_LIFE, Item, ItemState
from .problems import KeyNotFound
from .store import ItemStore

VERSION = b"\x01"
TIME_BYTES = 6
_LABEL = b"receipt"
_CHARACTERS = 60
_BODY_BYTES = len(VERSION) + ID_BYTES + 2 * TIME_BYTES


@dataclass(frozen=True)
class Receipt:
    """The content of a receipt key."""

    item_id: bytes
    created_at: datetime
    expires_at: datetime


def write_receipt_key(ring: KeyRing, receipt: Receipt) -> str:
    """Return the receipt key, 60 characters, authenticated with the newest key."""
    times = b"".join(_to_bytes(moment) for moment in (receipt.created_at, receipt.expires_at))
    body = VERSION + receipt.item_id + times
    return encode(body + ring.mac(Purpose.RECEIPT, _LABEL + body))


def read_receipt_key(ring: KeyRing, text: str) -> Receipt | None:
    """Return the content of a receipt key; None unless a key of the ring has authenticated it.

    The key may be surrounded or broken by other characters.
    """
    value = decode(find_key(text, _CHARACTERS, decode) or "") or b""
    body, mac = value[:_BODY_BYTES], value[_BODY_BYTES:]
    if body[:1] != VERSION or not ring.has_made(mac, Purpose.RECEIPT, _LABEL + body):
        return None
    times = body[len(VERSION) + ID_BYTES :]
    return Receipt(body[1 : 1 + ID_BYTES], _to_datetime(times[:TIME_BYTES]), _to_datetime(times[TIME_BYTES:]))


@dataclass(frozen=True)
class ReceiptStatus:
    """The state of an item, as its sender sees it.

    ``opens_left`` is None for an item without a limit. ``failed_attempts`` and ``late_attempts`` are None once the
    item's document is gone. ``received_at`` is when a reader last confirmed the text.
    """

    state: ItemState
    created_at: datetime
    expires_at: datetime
    opens_left: int | None
    opened_at: datetime | None = None
    received_at: datetime | None = None
    failed_attempts: int | None = None
    late_attempts: int | None = None
    last_late_at: datetime | None = None
    file_sizes: tuple[int, ...] = ()


class ReceiptService:
    """Shows senders the state of their items, and burns items."""

    def __init__(
        self,
        *,
        ring: KeyRing,
        clock: DatabaseClock,
        items: ItemStore,
        holds: HoldStore,
        ended_files: EndedFiles,
        metrics: Metrics,
        audit: Audit,
    ) -> None:
        self._ring = ring
        self._clock = clock
        self._audit = audit
        self._burned = {kind: metrics.items.child(kind, "burned") for kind in KINDS}
        self._burned_holds = metrics.held_openings.child("burned")
        self._items = items
        self._holds = holds
        self._ended_files = ended_files

    async def status(self, receipt_key: str) -> ReceiptStatus:
        """Return the state of an item.

        Raises `KeyNotFound` for a key that this service has not issued and once the tombstone is gone, and `Damaged`.
        """
        receipt = read_receipt_key(self._ring, receipt_key)
        if receipt is None:
            raise KeyNotFound
        status = _status(receipt, await self._items.history(receipt.item_id), self._clock.now())
        if status is None:
            raise KeyNotFound
        return status

    async def statuses(self, receipts: Sequence[Receipt]) -> list[ReceiptStatus | None]:
        """Return the state of each item; None once its tombstone is gone, and if it cannot be read."""
        items = await self._items.histories([receipt.item_id for receipt in receipts])
        now = self._clock.now()
        return [
            None if isinstance(item, Exception) else _status(receipt, item, now)
            for receipt, item in zip(receipts, items, strict=True)
        ]

    async def burn(self, receipt_key: str, network: str | None = None) -> None:
        """Destroy a waiting item, and end the holds of its openings. Raises `KeyNotFound` if there is neither.

        ``network`` is the client's, for the audit.
        """
        receipt = read_receipt_key(self._ring, receipt_key)
        if receipt is None:
            raise KeyNotFound
        await self.burn_item(receipt.item_id)
        self._audit.record(AuditEvent(kind=AuditKind.ITEM_BURNED, item_id=receipt.item_id, network=network))

    async def burn_item(self, item_id: bytes) -> None:
        """Do the same for an item, given by id, without an event in the audit."""
        burned = await self._items.burn(item_id)
        if burned is None:
            raise KeyNotFound
        await self._holds.release_item(item_id)
        if burned.has_files:
            await self._ended_files.erase(item_id)
        if burned.was_held:
            self._burned_holds.inc()
        elif not burned.was_waiting:
            raise KeyNotFound
        # Not every kind is known: the document may have been changed in the database.
        if burned.was_waiting and burned.kind in self._burned:
            self._burned[burned.kind].inc()


def _status(receipt: Receipt, item: Item | None, now: datetime) -> ReceiptStatus | None:
    if item is None:
        # Only an item that expired unopened leaves no tombstone; tombstones go seven days after the expiry.
        if receipt.expires_at <= now < receipt.expires_at + TOMBSTONE_LIFE:
            return ReceiptStatus(ItemState.EXPIRED, receipt.created_at, receipt.expires_at, 0)
        return None
    expired = item.state is ItemState.WAITING and item.expires_at <= now
    return ReceiptStatus(
        state=ItemState.EXPIRED if expired else item.state,
        created_at=item.created_at,
        expires_at=item.expires_at,
        opens_left=0 if expired else item.opens_left,
        opened_at=item.opened_at,
        received_at=max((hold.received_at for hold in item.holds if hold.received_at), default=None),
        failed_attempts=item.failed_attempts,
        late_attempts=item.late_attempts,
        last_late_at=item.last_late_at,
        file_sizes=tuple(file.size for file in item.files),
    )


def _to_bytes(moment: datetime) -> bytes:
    return milliseconds(moment).to_bytes(TIME_BYTES, "big")


def _to_datetime(milliseconds: bytes) -> datetime:
    return EPOCH + timedelta(milliseconds=int.from_bytes(milliseconds, "big"))
