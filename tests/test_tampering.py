"""Write access to the database can destroy an item, and nothing else."""

import asyncio
import copy
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import ObjectId

from .conftest import Api
from .uploads import create, patch


def changes(value: Any) -> Iterator[Any]:
    """Yield values near a value, and of other types."""
    if isinstance(value, bytes):
        yield from (value[:n] + bytes([value[n] ^ 1]) + value[n + 1 :] for n in range(len(value)))
        yield from (b"", value[:-1], value + b"\x00", value.hex())
    elif isinstance(value, datetime):
        yield from (value + timedelta(milliseconds=1), value + timedelta(days=9), value.isoformat(), 0)
    elif isinstance(value, int):
        yield from (value + 1, value + 100, -1, 2**40, 10**18, str(value), float(value) + 0.5)
    elif isinstance(value, str):
        yield from ("", value + "x", value.upper(), 7)
    yield from (None, [], {}, ObjectId())


def tampered(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the document with one field modified or removed, for every field, and a description of the change."""
    for name, value in document.items():
        if name == "_id":
            continue
        without = copy.deepcopy(document)
        del without[name]
        yield f"without {name}", without
        if isinstance(value, dict):
            for described, inner in tampered(value):
                yield f"{name}: {described}", {**document, name: inner}
            continue
        for other in changes(value):
            if type(other) is type(value) and other == value:
                continue
            yield f"{name}={other!r}"[:80], {**copy.deepcopy(document), name: other}


# Neither is authenticated: the number of wrong passwords, and the attempts being checked.
COUNTERS = ("failed_attempts", "checks")


@pytest.mark.parametrize("phrase", [None, "right"])
async def test_a_changed_document_never_opens_and_never_crashes(api: Api, phrase: str | None) -> None:
    """With any byte changed, or any field removed or of another type: a clear 4xx, and no plaintext."""
    fields: dict[str, Any] = {"phrase": phrase, "max_attempts": 100} if phrase else {}
    created = await api.create("the plaintext", **fields, max_opens=2)
    original = await api.items.find_one()
    tried = 0
    for described, document in tampered(original):
        if described.startswith(COUNTERS) or described.removeprefix("without ") in COUNTERS:
            continue
        if phrase and described.startswith("envelope=") and tried % 8:
            # 1 in 8 bytes is enough if each costs an Argon2id derivation.
            tried += 1
            continue
        tried += 1
        await api.items.replace_one({"_id": original["_id"]}, document)

        looked, _ = await api.call("GET", f"/secrets/{created['secret_key']}")
        status, answer = await api.open(created["secret_key"], **({"phrase": phrase} if phrase else {}))
        told, _ = await api.call("GET", f"/receipts/{created['receipt_key']}")

        # A changed key id may be that of a key missing from the ring.
        another_key = {503} if described.startswith("key_id=") else set()
        assert status in {403, 404, 410} | another_key, (described, status, answer)
        assert {looked, told} <= {200, 404, 410}, described
        assert "the plaintext" not in str(answer)
    assert tried > 150

    await api.items.replace_one({"_id": original["_id"]}, original)
    assert 200 == (await api.open(created["secret_key"], **({"phrase": phrase} if phrase else {})))[0]


@pytest.mark.parametrize("name", COUNTERS)
async def test_broken_counters_never_crash(api: Api, name: str) -> None:
    """Invalid values in the attempt counters are a clear problem, never a 500."""
    created = await api.create("the plaintext", phrase="right")
    original = await api.items.find_one()
    nonsense: Any
    for nonsense in (None, "x", -1, 10**18, 1.5, {}, [], [1], [{}], [{"id": 1, "at": "then"}], True):
        await api.items.replace_one({"_id": original["_id"]}, {**original, name: nonsense})

        status, _ = await api.open(created["secret_key"], phrase="wrong")

        assert status in {403, 404, 410, 429, 503}, (name, nonsense)


async def test_a_document_moved_to_another_id_never_opens(api: Api) -> None:
    """An envelope opens only under its own id, whichever of the two links is used."""
    mine, victims = await api.create("mine", max_opens=2), await api.create("the victim's", max_opens=2)
    first, second = await api.items.find({}, sort=[("_id", 1)]).to_list(None)
    for one, other in ((first, second), (second, first)):
        await api.items.replace_one({"_id": one["_id"]}, {**other, "_id": one["_id"]})

    for created in (mine, victims):
        status, problem = await api.open(created["secret_key"])
        assert (410, "damaged") == (status, problem["code"])


async def test_a_damaged_neighbour_spoils_nothing(api: Api) -> None:
    """A damaged item shares a look-up with intact ones, and they open."""
    bad = await api.create()
    await api.items.update_one({}, {"$set": {"max_opens": "many"}})
    sound = [await api.create(f"text {n}") for n in range(20)]

    answers = await asyncio.gather(*(api.open(created["secret_key"]) for created in [*sound[:10], bad, *sound[10:]]))

    statuses = [status for status, _ in answers]
    assert [200] * 10 + [410] + [200] * 10 == statuses


async def test_a_changed_upload_never_crashes(api: Api) -> None:
    """With any field removed, changed or of another type, each request gets a clear answer, and no secret uses it."""
    upload = await create(api, 11)
    await patch(api, upload, 0, b"hello ")
    uploads = api.mongo.collection("uploads")
    original = await uploads.find_one()
    damaged = 0
    for described, document in tampered(original):
        await uploads.replace_one({"_id": original["_id"]}, document)

        told = (await api.send("HEAD", f"/files/{upload}")).status
        written = (await patch(api, upload, 6, b"")).status
        used, _ = await api.call("POST", "/generate", {"files": [{"upload": upload}]})

        assert told in {200, 404, 410}, described
        assert written in {204, 404, 409, 410}, described
        assert 400 == used or document["offset"] == document["size"], described
        damaged += told == 410
    assert damaged > 30
