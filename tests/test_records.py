"""Sealing under the master key, and the blind index: known answers, properties, and tampering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.crypto.blind_index import BlindIndex
from src.core.crypto.keys import KeyRing, new_key
from src.core.crypto.records import Content, RecordSealer
from src.core.crypto.sealing import Unsealable

RING = KeyRing.parse("k1:" + "A" * 43 + "=")
SEALER = RecordSealer(RING, "note")
TEXT = st.text(alphabet=st.characters(codec="utf-8"))
KNOWN = (
    "02773a0e390c41f046de192aebe1de9bf9b4fcc2a975b5661d93920a6fb3835a745a086c6af287c466a345fb21ac4532729d"
    "b9f9edd95c8ae4fa924d4146b7641f546d1d7625368789313108e33bbd78f78061191a05356e5cf74403bf"
)


class Note(Content):
    """What is sealed here."""

    text: str
    data: bytes = b""


@given(TEXT, st.binary(), st.binary(min_size=16, max_size=16))
def test_what_was_sealed_opens(text: str, data: bytes, document_id: bytes) -> None:
    """Any text and any bytes come back."""
    note = Note(text=text, data=data)

    assert note == SEALER.open(Note, {"_id": document_id, **SEALER.seal(note, document_id)})


@given(st.data())
def test_no_changed_byte_opens(data: st.DataObject) -> None:
    """Neither in the envelope nor in the id."""
    document = {"_id": b"i" * 16, **SEALER.seal(Note(text="words"), b"i" * 16)}
    field = data.draw(st.sampled_from(["_id", "envelope"]))
    place = data.draw(st.integers(0, len(document[field]) - 1))
    changed = bytearray(document[field])
    changed[place] ^= data.draw(st.integers(1, 255))

    with pytest.raises(Unsealable):
        SEALER.open(Note, {**document, field: bytes(changed)})


@pytest.mark.parametrize(
    "changes",
    [
        {"key_id": "k2"},
        {"key_id": None},
        {"_id": b"j" * 16},
        {"_id": "i" * 16},
        {"envelope": b""},
        {"envelope": None},
        {"envelope": b"\x02" + bytes(92)},
    ],
)
def test_no_changed_document_opens(changes: dict[str, object]) -> None:
    """With any content of its fields, opening fails in the same way."""
    document = {"_id": b"i" * 16, **SEALER.seal(Note(text="words"), b"i" * 16)}

    with pytest.raises(Unsealable):
        SEALER.open(Note, {**document, **changes})


def test_kinds_and_schemas_do_not_mix() -> None:
    """A record of another kind, with another schema or under another key ring does not open."""

    class Other(Content):
        """Other content."""

        words: str

    document = {"_id": b"i" * 16, **SEALER.seal(Note(text="words"), b"i" * 16)}

    for sealer, schema in (
        (RecordSealer(RING, "other"), Note),
        (SEALER, Other),
        (RecordSealer(KeyRing.parse(new_key()), "note"), Note),
    ):
        with pytest.raises(Unsealable):
            sealer.open(schema, document)


def test_a_known_envelope_opens() -> None:
    """Envelopes of earlier versions still open: a new format needs a new version byte."""
    document = {"_id": bytes(range(16)), "key_id": "k1", "envelope": bytes.fromhex(KNOWN)}

    assert Note(text="words that stay", data=b"\x00\xff") == SEALER.open(Note, document)


def test_an_envelope_tells_neither_the_content_nor_its_length() -> None:
    """Equal contents look different, and short ones have the same length."""
    envelopes = [SEALER.seal(Note(text=text), b"i" * 16)["envelope"] for text in ("a", "a", "abcdefgh")]

    assert 3 == len(set(envelopes))
    assert {13 + 64 + 16} == {len(envelope) for envelope in envelopes}


def test_content_is_not_shown() -> None:
    """Neither `repr` nor `str` contains it."""
    assert {"Note(…)"} == {repr(Note(text="words")), str(Note(text="words")), f"{Note(text='words')}"}


def test_the_blind_index_is_unchanged() -> None:
    """A known answer: a change would lose every user."""
    assert ["86bf99f99bbf8bf302d06140296297767659ec43a64d1898198e583a418a9471"] == [
        one.hex() for one in BlindIndex(RING, "username").of("ann")
    ]


@given(TEXT, TEXT)
def test_a_blind_index_finds_a_value_and_no_other(one: str, other: str) -> None:
    """Values have equal indexes only if they and the keys are equal."""
    index = BlindIndex(RING, "username")

    assert (one == other) == (index.of(one) == index.of(other))
    assert index.of(one) != BlindIndex(RING, "another field").of(one)
    assert index.of(one) != BlindIndex(KeyRing.parse(new_key()), "username").of(one)


def test_an_index_under_several_keys_keeps_the_old_ones() -> None:
    """A ring with a new key in front finds values indexed with the old ring."""
    old = new_key()
    before, after = KeyRing.parse(old), KeyRing.parse(f"{new_key()},{old}")

    assert BlindIndex(before, "username").of("ann")[0] == BlindIndex(after, "username").of("ann")[1]
