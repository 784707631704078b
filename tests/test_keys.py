"""The key ring."""

import base64
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.crypto.keys import (
    KEY_FILE,
    KeyRing,
    KeyRingError,
    Purpose,
    ensure_key_file,
    new_key,
    put_in_front,
    read_key_ring,
)
from src.settings import Settings

KEY = base64.b64encode(bytes(range(32))).decode()


def test_sub_keys_match_their_known_answers() -> None:
    """HKDF-Expand (RFC 5869) of the bytes 0 to 31, computed from its definition with HMAC."""
    ring = KeyRing.parse(f"a:{KEY}")

    assert "b02921d62306c853" == (ring.subkey(Purpose.SEAL, "a") or b"").hex()[:16]
    assert "49f46352e2a93c54" == (ring.subkey(Purpose.RECEIPT, "a") or b"").hex()[:16]


def test_the_first_key_is_the_newest() -> None:
    """A ring keeps its order, with any separators between its entries."""
    ring = KeyRing.parse(f" new:{KEY},\n old-1:{base64.b64encode(b'x' * 32).decode()}\n")

    assert ("new", ("new", "old-1")) == (ring.newest, ring.key_ids)
    assert 2 == len(set(ring.subkeys(Purpose.SEAL)))
    assert None is ring.subkey(Purpose.SEAL, "gone")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "empty"),
        (" , ", "empty"),
        ("justtext", "entry 1"),
        (f":{KEY}", "entry 1"),
        (f"a b:{KEY}", "entry 1"),
        (f"a:{KEY},b:***", "entry 2"),
        ("a:c2hvcnQ=", "32 bytes"),
        (f"a:{KEY},a:{KEY}", "same id"),
    ],
)
def test_a_bad_ring_is_refused_without_being_repeated(text: str, told: str) -> None:
    """The error names the entry by its position, and contains nothing of a key."""
    with pytest.raises(KeyRingError) as caught:
        KeyRing.parse(text)

    assert told in str(caught.value)
    assert KEY not in str(caught.value)


@given(st.text())
def test_any_text_is_a_ring_or_an_error(text: str) -> None:
    """Parsing raises only its own error."""
    try:
        KeyRing.parse(text)
    except KeyRingError:
        pass


def test_a_ring_shows_no_key() -> None:
    """The representation names ids only."""
    assert "KeyRing(a)" == repr(KeyRing.parse(f"a:{KEY}"))


def test_a_new_key_is_a_ring() -> None:
    """The output of `new_key` parses, starts with a date and is unique."""
    first, second = new_key(), new_key()

    assert first != second
    assert re.fullmatch(r"\d{8}-[0-9a-f]{6}", KeyRing.parse(first).newest)


def test_a_byte_order_mark_before_a_ring_is_ignored(tmp_path: Path, make_settings: Callable[..., Settings]) -> None:
    """An editor may have added it; a key added in front leaves none in the middle."""
    old, new = new_key(), new_key()
    (tmp_path / KEY_FILE).write_text(f"{old}\n", encoding="utf-8-sig")
    settings = make_settings(keys=None, data_dir=tmp_path)

    assert read_key_ring(settings).key_ids == KeyRing.parse(old).key_ids
    put_in_front(new, tmp_path / KEY_FILE)
    assert f"{new}\n{old}\n" == (tmp_path / KEY_FILE).read_text(encoding="ascii")


def test_a_key_file_is_created_once(tmp_path: Path) -> None:
    """16 parallel callers get the same complete file, readable only by its owner."""
    path = tmp_path / "data" / "keys"

    with ThreadPoolExecutor(16) as pool:
        rings = set(pool.map(lambda _: ensure_key_file(path).read_text(), range(16)))

    assert 1 == len(rings)
    KeyRing.parse(rings.pop())
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert ["keys"] == [file.name for file in path.parent.iterdir()]
