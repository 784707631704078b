"""Sealing: known answers, and envelopes that must never open."""

import base64
import hmac
import os
from hashlib import sha256
from unicodedata import normalize

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from src.core.crypto.keys import KeyRing, Purpose, new_key
from src.core.crypto.sealing import (
    NONCE_BYTES,
    PADDED_TO,
    SALT_BYTES,
    Argon2Cost,
    Link,
    Sealer,
    Unsealable,
    decode,
    derive_phrase_key,
    encode,
)

RING = KeyRing.parse(f"kid-1:{base64.b64encode(bytes(range(32))).decode()}")
LINK = Link(bytes(range(32, 64)))
TERMS = b"terms"
CHEAP = Argon2Cost(memory_kib=8, passes=1)


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 for one block, implemented from RFC 5869 without the library of the code."""
    return hmac.digest(hmac.digest(salt, key, sha256), info + b"\x01", sha256)


def test_the_envelope_is_as_documented() -> None:
    """An envelope built here from the description in docs/security.md opens."""
    salt, nonce = b"s" * SALT_BYTES, b"n" * NONCE_BYTES
    server_key = RING.subkey(Purpose.SEAL, "kid-1") or b""
    phrase_key = b"p" * 32
    data_key = hkdf(LINK.key + phrase_key + server_key, salt, b"sealpost/v1/item+phrase")
    item_id = sha256(b"sealpost/v1/item-id" + LINK.key).digest()[:16]
    bound = b"".join(len(part).to_bytes(4, "big") + part for part in (item_id, b"kid-1", TERMS))
    padded = b"hello\x80" + bytes(58)
    envelope = b"\x01" + salt + nonce + AESGCM(data_key).encrypt(nonce, padded, bound)

    opened = Sealer(RING).open(envelope, key_id="kid-1", link=LINK, terms=TERMS, phrase_key=phrase_key)

    assert b"hello" == opened


def test_ids_and_phrase_keys_match_their_known_answers() -> None:
    """A change would make all stored data unreadable."""
    assert "494e244dff1e5393ec636f9544c61a03" == LINK.item_id.hex()
    assert (
        "ae4d8c8b713876044c8347c76986a9b5655944aaacfffe9bea4dff9e7b6a1899"
        == derive_phrase_key("correct horse", b"0123456789abcdef", Argon2Cost(19_456, 2)).hex()
    )


@given(st.binary(max_size=1000), st.binary(max_size=40), st.sampled_from([b"", b"p" * 32]))
def test_what_is_sealed_opens(plaintext: bytes, terms: bytes, phrase_key: bytes) -> None:
    """Any bytes come back, and the envelope's length discloses only the multiple of 64 that they fit in."""
    sealer, link = Sealer(RING), Link.new()

    key_id, envelope = sealer.seal(plaintext, link=link, terms=terms, phrase_key=phrase_key)

    assert plaintext == sealer.open(envelope, key_id=key_id, link=link, terms=terms, phrase_key=phrase_key)
    overhead = 1 + SALT_BYTES + NONCE_BYTES + 16
    assert (len(plaintext) // PADDED_TO + 1) * PADDED_TO == len(envelope) - overhead


def test_every_byte_of_an_envelope_counts() -> None:
    """With any byte changed, or the end cut off or extended, it does not open."""
    sealer = Sealer(RING)
    key_id, envelope = sealer.seal(b"secret", link=LINK, terms=TERMS)
    changed = [envelope[:n] + bytes([envelope[n] ^ 1]) + envelope[n + 1 :] for n in range(len(envelope))]
    shorter = [envelope[:n] for n in range(len(envelope))]

    for candidate in [*changed, *shorter, envelope + b"\x00"]:
        with pytest.raises(Unsealable):
            sealer.open(candidate, key_id=key_id, link=LINK, terms=TERMS)


def test_every_part_of_the_key_counts() -> None:
    """With another link, password, server key, key id or terms, it does not open."""
    sealer = Sealer(KeyRing.parse(f"{new_key()},kid-2:{base64.b64encode(os.urandom(32)).decode()}"))
    key_id, envelope = sealer.seal(b"secret", link=LINK, terms=TERMS, phrase_key=b"p" * 32)
    right = {"key_id": key_id, "link": LINK, "terms": TERMS, "phrase_key": b"p" * 32}
    assert b"secret" == sealer.open(envelope, **right)  # type: ignore[arg-type]

    wrong: list[dict[str, object]] = [
        {"link": Link.new()},
        {"terms": b"other"},
        {"terms": b""},
        {"phrase_key": b"q" * 32},
        {"phrase_key": b""},
        {"key_id": "kid-2"},
        {"key_id": "unknown"},
    ]
    for change in wrong:
        with pytest.raises(Unsealable):
            sealer.open(envelope, **{**right, **change})  # type: ignore[arg-type]
    with pytest.raises(Unsealable):
        Sealer(RING).open(envelope, **right)  # type: ignore[arg-type]


def test_older_keys_still_open() -> None:
    """A key added in front seals from now on; data of the older one still opens."""
    old = new_key()
    key_id, envelope = Sealer(KeyRing.parse(old)).seal(b"secret", link=LINK, terms=TERMS)

    rotated = Sealer(KeyRing.parse(f"{new_key()},{old}"))

    assert b"secret" == rotated.open(envelope, key_id=key_id, link=LINK, terms=TERMS)
    assert key_id != rotated.seal(b"secret", link=LINK, terms=TERMS)[0]


def test_nothing_repeats() -> None:
    """Two envelopes of the same text and link have only their version in common."""
    sealer = Sealer(RING)
    (_, first), (_, second) = (sealer.seal(b"secret", link=LINK, terms=TERMS) for _ in range(2))

    assert first[1:17] != second[1:17]
    assert first[17:29] != second[17:29]
    assert first[29:] != second[29:]


@given(st.binary(max_size=80))
def test_a_key_in_a_link_has_one_spelling(value: bytes) -> None:
    """Decoding reverses encoding, and no other text decodes to the same bytes."""
    text = encode(value)

    assert value == decode(text)
    assert None is decode(text + "=")
    if text and text[-1] != "-":
        other = text[:-1] + ("-" if len(value) % 3 else "*")
        assert decode(other) != value


@given(st.text(max_size=60))
def test_any_text_is_a_link_key_or_none(text: str) -> None:
    """Parsing raises nothing, and accepted text is in canonical form."""
    link = Link.parse(text)

    assert link is None or text == link.text


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_different_phrases_give_different_keys(first: str, second: str) -> None:
    """Passwords are equal only if their normal forms are."""
    keys = [derive_phrase_key(phrase, b"s" * 16, CHEAP) for phrase in (first, second)]

    assert (normalize("NFC", first) == normalize("NFC", second)) == (keys[0] == keys[1])


def test_a_link_shows_nothing_of_its_key() -> None:
    """Neither the `repr` nor the id discloses the key."""
    assert LINK.key.hex() not in repr(LINK)
    assert LINK.text not in repr(LINK)
    assert LINK.item_id not in LINK.key
