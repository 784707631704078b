"""The content of secrets with files, and the manifests of their openings."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.clock import EPOCH
from src.core.crypto.keys import KeyRing
from src.core.crypto.sealing import Link, Unsealable
from src.core.stored_files import StoredFile
from src.sealed.contents import Contents, FileEntry
from src.sealed.holds import derive_claim_id
from src.sealed.items import SECRET, Item, pack_terms
from src.sealed.manifests import ManifestSealer

from .processes import ROOT

RING = KeyRing([("k", bytes(range(96, 128)))])
LINK, READER = Link(bytes(range(32, 64))), bytes(range(64, 96))
CLAIM_ID = derive_claim_id(LINK, READER)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
ENTRIES = st.builds(FileEntry, key=st.binary(min_size=32, max_size=32), name=TEXTS | st.none(), type=TEXTS | st.none())
FILES = st.builds(StoredFile, st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1))


def item_with(*files: StoredFile, key_id: str = "k") -> Item:
    """Return an item with these files."""
    return Item(
        item_id=LINK.item_id,
        kind=SECRET,
        created_at=EPOCH,
        expires_at=EPOCH + timedelta(days=1),
        max_opens=1,
        opens_left=1,
        key_id=key_id,
        envelope=b"",
        phrase=None,
        files=files,
    )


ITEM = item_with(StoredFile(bytes(16), 3))


@given(text=TEXTS, files=st.lists(ENTRIES, max_size=4))
def test_any_content_comes_back(text: str, files: list[FileEntry]) -> None:
    """A text alone is stored as it is; with files, in JSON. Its `repr` names only its type and address."""
    contents = Contents(text, tuple(files))

    plaintext = contents.to_bytes()

    assert contents == Contents.from_bytes(plaintext, has_files=bool(files))
    assert files or plaintext == text.encode()
    assert object.__repr__(contents) == repr(contents)


@given(files=st.lists(ENTRIES, min_size=1, max_size=4), stored=st.lists(FILES, min_size=1, max_size=4))
def test_any_manifest_comes_back(files: list[FileEntry], stored: list[StoredFile]) -> None:
    """It discloses the length of its content to 64 bytes only."""
    item = item_with(*stored)

    manifest = ManifestSealer(RING).seal(tuple(files), link=LINK, reader_key=READER, claim_id=CLAIM_ID, item=item)

    opened = ManifestSealer(RING).open(manifest, link=LINK, reader_key=READER, claim_id=CLAIM_ID, item=item)
    assert tuple(files) == opened
    assert (1 + 16 + 12 + 16) % 64 == len(manifest) % 64


@given(one=st.lists(FILES, max_size=3), other=st.lists(FILES, max_size=3))
def test_different_files_are_different_terms(one: list[StoredFile], other: list[StoredFile]) -> None:
    """Without files, the terms are as before; otherwise any difference shows."""
    fixed = (SECRET, EPOCH, EPOCH + timedelta(days=1), 1, None)

    terms = [pack_terms(*fixed, files=files) for files in (one, other)]

    assert (one == other) == (terms[0] == terms[1])
    assert terms[0].startswith(pack_terms(*fixed))
    assert bool(one) == (terms[0] != pack_terms(*fixed))


@pytest.mark.parametrize(
    "change",
    [
        {"link": Link(bytes(32))},
        {"reader_key": bytes(32)},
        {"claim_id": bytes(16)},
        {"item": item_with(StoredFile(bytes(16), 4))},
        {"item": item_with(StoredFile(bytes(15) + b"x", 3))},
        {"item": item_with(*ITEM.files * 2)},
        {"item": item_with(*ITEM.files, key_id="other")},
    ],
)
def test_a_manifest_is_bound_to_its_claim(change: dict[str, Any]) -> None:
    """It opens only with the same link, reader, claim, server key and files."""
    bound: dict[str, Any] = {"link": LINK, "reader_key": READER, "claim_id": CLAIM_ID, "item": ITEM}
    manifest = ManifestSealer(RING).seal((FileEntry(key=bytes(32)),), **bound)

    with pytest.raises(Unsealable):
        ManifestSealer(RING).open(manifest, **{**bound, **change})
    for position in range(len(manifest)):
        changed = bytearray(manifest)
        changed[position] ^= 1
        with pytest.raises(Unsealable):
            ManifestSealer(RING).open(bytes(changed), **bound)


def test_the_manifest_is_as_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test vector in docs/security.md."""
    monkeypatch.setattr("secrets.token_bytes", lambda length: bytes(range(16, 16 + length)))
    entry = FileEntry(key=bytes(range(32)), name="a.txt", type="text/plain")

    manifest = ManifestSealer(RING).seal((entry,), link=LINK, reader_key=READER, claim_id=CLAIM_ID, item=ITEM)

    documented = (ROOT / "docs" / "security.md").read_text()
    assert manifest.hex() in "".join(documented.partition("### The manifest")[2].partition("\n### ")[0].split())
