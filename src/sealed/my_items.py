"""Listing and burning the items that a user keeps with the account."""

from dataclasses import dataclass
from datetime import timedelta

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.clock import EPOCH, milliseconds
from ..core.crypto.sealing import ID_BYTES, decode, encode
from ..errors import FieldError, Malformed
from .kept_items import KeptItemStore, Position
from .problems import ItemNotFound, KeyNotFound
from .receipts import TIME_BYTES, Receipt, ReceiptService, ReceiptStatus


@dataclass(frozen=True)
class MyItem:
    """An item in a user's list."""

    item_id: bytes
    kind: str
    status: ReceiptStatus


class MyItems:
    """Lists and burns the items that users keep."""

    def __init__(self, *, kept: KeptItemStore, receipts: ReceiptService, audit: Audit) -> None:
        self._kept = kept
        self._receipts = receipts
        self._audit = audit

    async def page(self, user_id: bytes, *, cursor: str | None, limit: int) -> tuple[list[MyItem], str | None]:
        """Return up to ``limit`` of a user's items, newest first, and the cursor of the next page, if there is one.

        Items that are added or deleted between two pages neither repeat nor hide others. A page may have fewer items
        than records: those that cannot be read are left out. Raises `Malformed` for an invalid cursor.
        """
        kept, last = await self._kept.page(user_id, _read_cursor(cursor) if cursor else None, limit)
        statuses = await self._receipts.statuses(
            [Receipt(one.item_id, one.content.created_at, one.content.expires_at) for one in kept]
        )
        items = [
            MyItem(one.item_id, one.content.kind, status)
            for one, status in zip(kept, statuses, strict=True)
            if status is not None
        ]
        return items, _write_cursor(last) if last else None

    async def burn(self, user_id: bytes, item_id: bytes, network: str) -> None:
        """Burn one of a user's items as its receipt would. Raises `ItemNotFound` if there is nothing to burn."""
        if await self._kept.find(user_id, item_id) is None:
            raise ItemNotFound
        try:
            await self._receipts.burn_item(item_id)
        except KeyNotFound:
            raise ItemNotFound from None
        self._audit.record(AuditEvent(kind=AuditKind.ITEM_BURNED, user_id=user_id, item_id=item_id, network=network))


def _write_cursor(position: Position) -> str:
    return encode(milliseconds(position.created_at).to_bytes(TIME_BYTES, "big") + position.item_id)


def _read_cursor(text: str) -> Position:
    value = decode(text) or b""
    try:
        created_at = EPOCH + timedelta(milliseconds=int.from_bytes(value[:TIME_BYTES], "big"))
    except OverflowError:
        value = b""
    if len(value) != TIME_BYTES + ID_BYTES:
        raise Malformed(errors=(FieldError("before", "is not a cursor of this list; start without a cursor"),))
    return Position(created_at, value[TIME_BYTES:])
