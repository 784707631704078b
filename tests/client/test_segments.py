"""Encrypted files: the same format everywhere, and no altered content is accepted."""

import json
import re
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.client.envelopes import (
    NotOpened,
    derive_keys,
    open_manifest,
    open_text,
    seal_manifest,
    seal_text,
    write_base64,
)
from src.client.files.manifest import Manifest, SharedFile, read_manifest, write_manifest
from src.client.segments import SEALED_SEGMENT_BYTES, SEGMENT_BYTES, SegmentCipher, sealed_size

from .test_envelopes import FRAGMENT_KEY, NONCE, PHRASE, PLAIN, SECURITY, TEXT

KEY = bytes(range(0x60, 0x80))
MANIFEST = Manifest(TEXT, [SharedFile("plans/Grüße.txt", "text/plain", len(TEXT), KEY)])
SIZES = (0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES + 5)


def content_of(size: int) -> bytes:
    """Return the content of the test vectors."""
    return bytes(index % 251 for index in range(size))


def seal(content: bytes, key: bytes = KEY) -> list[bytes]:
    """Return the sealed segments of a content."""
    cipher = SegmentCipher(key, len(content))
    return [
        cipher.seal(index, content[index * SEGMENT_BYTES : (index + 1) * SEGMENT_BYTES])
        for index in range(cipher.segments)
    ]


def documented() -> str:
    """Return the section of the format."""
    return SECURITY.read_text().partition("### End-to-end encrypted files\n")[2].partition("\n### ")[0]


def test_segments_match_the_test_vectors() -> None:
    """Sizes and digests are those of `docs/security.md`."""
    rows = re.findall(r"(?m)^\| .* \| (\d+) \| (\d+) \| `([0-9a-f]{64})` \|$", documented())
    contents = [b"", TEXT.encode(), content_of(SEGMENT_BYTES), content_of(SEGMENT_BYTES + 1)]
    sealed = [b"".join(seal(content)) for content in contents]

    assert rows == [
        (str(len(content)), str(len(whole)), sha256(whole).hexdigest())
        for content, whole in zip(contents, sealed, strict=True)
    ]
    assert [write_base64(whole) for whole in sealed[:2]] == re.findall(r"(?m)^    ([\w-]{22,50})$", documented())


def test_envelopes_match_the_test_vectors() -> None:
    """With and without a password; they open to the same manifest."""
    with_password = derive_keys(FRAGMENT_KEY, PHRASE)
    envelopes = re.findall(r"(?m)^    (sealpost-files-1\.\S+)$", documented())

    assert [write_manifest(MANIFEST, keys, NONCE) for keys in (PLAIN, with_password)] == envelopes
    assert [MANIFEST, MANIFEST] == [read_manifest(envelopes[0], PLAIN), read_manifest(envelopes[1], with_password)]
    assert open_manifest(envelopes[0], PLAIN) in documented()


@pytest.mark.parametrize("size", SIZES)
def test_a_sealed_content_opens(size: int) -> None:
    """Each segment has 16 bytes more than its content."""
    content, cipher = content_of(size), SegmentCipher(KEY, size)
    sealed = seal(content)

    assert content == b"".join(cipher.open(index, segment) for index, segment in enumerate(sealed))
    assert sealed_size(size) == sum(map(len, sealed))
    assert all(len(segment) == SEALED_SEGMENT_BYTES for segment in sealed[:-1])


@given(st.binary(max_size=40), st.integers(0, 7), st.data())
def test_an_altered_segment_does_not_open(content: bytes, bit: int, data: st.DataObject) -> None:
    """Every bit is protected."""
    [sealed] = seal(content)
    place = data.draw(st.integers(0, len(sealed) - 1))
    altered = bytearray(sealed)
    altered[place] ^= 1 << bit

    with pytest.raises(NotOpened):
        SegmentCipher(KEY, len(content)).open(0, bytes(altered))


def test_a_segment_opens_only_in_its_place() -> None:
    """Not at another position, not as the last one if it is not, and not if it is too short."""
    content = content_of(3 * SEGMENT_BYTES)
    first, second, last = seal(content)
    cipher = SegmentCipher(KEY, len(content))
    shorter, longer = SegmentCipher(KEY, 2 * SEGMENT_BYTES), SegmentCipher(KEY, 4 * SEGMENT_BYTES)

    for opener, index, segment in (
        (cipher, 0, second),
        (cipher, 1, first),
        (shorter, 1, second),
        (longer, 2, last),
        (cipher, 2, last[:-1]),
        (cipher, 2, b""),
        (SegmentCipher(bytes(32), len(content)), 0, first),
        (SegmentCipher(KEY, len(content) - 1), 2, last),
    ):
        with pytest.raises(NotOpened):
            opener.open(index, segment)


def test_the_envelopes_of_texts_and_files_differ() -> None:
    """Neither opens as the other, even with the prefix replaced."""
    text, files = seal_text("a", PLAIN), seal_manifest("a", PLAIN)

    for envelope in (text, text.replace("text", "files")):
        with pytest.raises(NotOpened):
            open_manifest(envelope, PLAIN)
    for envelope in (files, files.replace("files", "text")):
        with pytest.raises(NotOpened):
            open_text(envelope, PLAIN)


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        "[" * 100_000,
        "[]",
        {"text": 1, "files": []},
        {"text": ""},
        {"text": "", "files": [1]},
        {"text": "", "files": [{"name": 1, "type": "", "size": 1, "key": "A" * 43}]},
        {"text": "", "files": [{"name": "", "type": None, "size": 1, "key": "A" * 43}]},
        {"text": "", "files": [{"name": "", "type": "", "size": -1, "key": "A" * 43}]},
        {"text": "", "files": [{"name": "", "type": "", "size": True, "key": "A" * 43}]},
        {"text": "", "files": [{"name": "", "type": "", "size": 1, "key": "A" * 42}]},
        {"text": "", "files": [{"name": "", "type": "", "size": 1, "key": 5}]},
        {"text": "", "files": [{"name": "", "type": "", "size": 1}]},
    ],
    ids=lambda content: str(content)[:60],
)
def test_a_malformed_manifest_is_refused(content: object) -> None:
    """Whoever has the keys may still send anything."""
    text = content if isinstance(content, str) else json.dumps(content)

    with pytest.raises(NotOpened):
        read_manifest(seal_manifest(text, PLAIN), PLAIN)


def test_file_keys_are_not_shown() -> None:
    """Not in the `repr` of a manifest."""
    assert "key" not in repr(MANIFEST.files[0])
    assert TEXT not in repr(MANIFEST)
