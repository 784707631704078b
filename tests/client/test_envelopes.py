"""What is encrypted before it is sent: the same everywhere, whole, and opened by its own keys alone."""

import os
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from src.client import envelopes
from src.client.envelopes import LinkKeys, NotOpened, derive_keys, open_text, read_fragment, seal_text, write_fragment

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"
LINK_KEY, FRAGMENT_KEY, NONCE = bytes(range(0x20, 0x40)), bytes(range(0x20)), bytes(range(0x40, 0x4C))
TEXT, PHRASE = "the door code is 4711", "Grüße"
PLAIN = derive_keys(FRAGMENT_KEY, None)
# One for all examples: what is drawn must not depend on chance that hypothesis does not know of.
ENVELOPE, FRAGMENT = seal_text(TEXT, PLAIN), write_fragment(LinkKeys(os.urandom(32), os.urandom(32)))


def documented() -> str:
    """Return the section of the format."""
    return SECURITY.read_text().partition("### The envelope of the two ends\n")[2].partition("\n### ")[0]


def test_the_format_is_that_of_the_test_vectors() -> None:
    """Fragment, envelopes and verifier are those of `docs/security.md`, and they open."""
    vectors = re.findall(r"(?m)^    (\S{43,})$", documented())
    keys = derive_keys(FRAGMENT_KEY, PHRASE)

    assert [
        write_fragment(LinkKeys(LINK_KEY, FRAGMENT_KEY)),
        seal_text(TEXT, PLAIN, NONCE),
        keys.verifier,
        seal_text(TEXT, keys, NONCE),
    ] == vectors
    assert [TEXT, TEXT] == [open_text(vectors[1], PLAIN), open_text(vectors[3], keys)]
    assert (LINK_KEY, FRAGMENT_KEY) == (read_fragment(vectors[0]).link_key, read_fragment(vectors[0]).fragment_key)


def test_the_sizes_are_as_documented() -> None:
    """Those of the tables are the constants; so is the number of iterations, wherever it stands."""
    text = documented()
    sizes = dict(re.findall(r"(?m)^\| ([\w ]+) \| ([\w ]+) \| ", text))

    assert {
        "part": "bytes",
        "link key": str(envelopes.KEY_BYTES),
        "fragment key": str(envelopes.KEY_BYTES),
        "check": str(envelopes.CHECK_BYTES),
        "version": "1",
        "iterations": "4",
        "nonce": str(envelopes.NONCE_BYTES),
        "ciphertext": f"a multiple of {envelopes.PADDED_TO}",
        "tag": str(envelopes.TAG_BYTES),
    } == sizes
    assert f"phrase salt, {envelopes.ITERATIONS})" in text
    assert f"`{envelopes.PREFIX}`" in text


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    """Whatever it contains, in a length that tells its own up to the next multiple of 64 alone."""
    envelope = seal_text(text, PLAIN)
    size = len(envelopes.read_base64(envelope.removeprefix(envelopes.PREFIX)))

    assert text == open_text(envelope, PLAIN)
    assert 0 == (size - 5 - envelopes.NONCE_BYTES - envelopes.TAG_BYTES) % envelopes.PADDED_TO


@given(st.data())
def test_a_changed_envelope_does_not_open(data: st.DataObject) -> None:
    """Not one character may be another, or be missing."""
    place = data.draw(st.integers(0, len(ENVELOPE) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.= ").filter(lambda one: one != ENVELOPE[place]))

    for changed in (
        ENVELOPE[:place] + other + ENVELOPE[place + 1 :],
        ENVELOPE[:place],
        ENVELOPE[:place] + ENVELOPE[place + 1 :],
    ):
        with pytest.raises(NotOpened):
            open_text(changed, PLAIN)


@given(st.data())
def test_a_changed_link_is_noticed(data: st.DataObject) -> None:
    """Before anything is opened with it."""
    place = data.draw(st.integers(0, len(FRAGMENT) - 1))
    other = data.draw(st.sampled_from("AZaz09-_.= é").filter(lambda one: one != FRAGMENT[place]))

    for changed in (FRAGMENT[:place] + other + FRAGMENT[place + 1 :], FRAGMENT[:place], FRAGMENT + "A", FRAGMENT * 2):
        with pytest.raises(NotOpened):
            read_fragment(changed)


def test_neither_key_nor_phrase_will_do_alone() -> None:
    """Another fragment key, another phrase, or none opens nothing, and each has a verifier of its own."""
    keys = derive_keys(FRAGMENT_KEY, PHRASE)
    others = [derive_keys(bytes(32), PHRASE), derive_keys(FRAGMENT_KEY, "other"), PLAIN, derive_keys(FRAGMENT_KEY, "")]
    envelope = seal_text(TEXT, keys)

    for other in others:
        with pytest.raises(NotOpened):
            open_text(envelope, other)
    assert {None} == {other.verifier for other in others[2:]}
    assert 3 == len({keys.verifier, *(other.verifier for other in others[:2])})


def test_a_phrase_is_the_same_however_it_is_composed() -> None:
    """One keyboard writes ü as one character, and another as two."""
    assert (
        derive_keys(FRAGMENT_KEY, "Gr\u00fc\u00dfe").verifier == derive_keys(FRAGMENT_KEY, "Gru\u0308\u00dfe").verifier
    )


def test_what_was_padded_otherwise_is_refused() -> None:
    """A text of the right key in the wrong form is no text."""
    header = bytes([1, 0, 0, 0, 0])
    for content in (bytes(64), b"", b"\xff\x80"):
        sealed = AESGCM(PLAIN.data_key).encrypt(NONCE, content, b"sealpost/v1/text-envelope" + header)
        with pytest.raises(NotOpened):
            open_text(envelopes.PREFIX + envelopes.write_base64(header + NONCE + sealed), PLAIN)


def test_the_keys_do_not_show() -> None:
    """Nowhere, not even in an error of somebody else's."""
    shown = repr([derive_keys(FRAGMENT_KEY, None), LinkKeys(LINK_KEY, FRAGMENT_KEY)])

    assert "bytes" not in shown
    assert "b'" not in shown
