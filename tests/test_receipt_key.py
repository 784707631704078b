"""Receipt keys."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from src.core.crypto.keys import KeyRing, new_key
from src.core.crypto.sealing import decode, encode
from src.sealed.receipts import Receipt, read_receipt_key, write_receipt_key

RING = KeyRing.parse(new_key())
MOMENTS = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(9000, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC, microsecond=moment.microsecond // 1000 * 1000)
)
RECEIPT = Receipt(b"0123456789abcdef", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 8, tzinfo=UTC))


@given(st.binary(min_size=16, max_size=16), MOMENTS, MOMENTS)
def test_a_receipt_key_is_read_back(item_id: bytes, created_at: datetime, expires_at: datetime) -> None:
    """Id and times come back to the millisecond, in 60 characters."""
    receipt = Receipt(item_id, created_at, expires_at)

    text = write_receipt_key(RING, receipt)

    assert (60, receipt) == (len(text), read_receipt_key(RING, text))


def test_every_bit_of_a_receipt_key_counts() -> None:
    """With any bit changed, or another length, it is invalid."""
    value = decode(write_receipt_key(RING, RECEIPT)) or b""
    for n in range(len(value) * 8):
        changed = bytearray(value)
        changed[n // 8] ^= 1 << n % 8
        assert None is read_receipt_key(RING, encode(bytes(changed)))
    for other in (value[:-1], value + b"\x00", b""):
        assert None is read_receipt_key(RING, encode(other))


@given(st.text())
def test_any_text_is_a_receipt_key_or_none(text: str) -> None:
    """Parsing raises nothing."""
    assert None is read_receipt_key(RING, text)


def test_a_receipt_outlives_a_rotation_but_not_its_key() -> None:
    """It is valid with an older key of the ring; without that key it is not."""
    old = new_key()
    text = write_receipt_key(KeyRing.parse(old), RECEIPT)

    assert RECEIPT == read_receipt_key(KeyRing.parse(f"{new_key()},{old}"), text)
    assert None is read_receipt_key(KeyRing.parse(new_key()), text)


def test_times_are_kept_in_utc() -> None:
    """A time in another zone is the same time."""
    zone = RECEIPT.created_at.astimezone().tzinfo
    shifted = Receipt(RECEIPT.item_id, RECEIPT.created_at.astimezone(zone), RECEIPT.expires_at + timedelta())

    assert write_receipt_key(RING, RECEIPT) == write_receipt_key(RING, shifted)
