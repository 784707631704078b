"""Secrets with files: who gets them, for how long, and that nothing is left afterwards."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from bson import BSON
from pymongo.errors import ConnectionFailure

from src.api.deadlines import LONGEST_STEP
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, read_key_ring
from src.core.crypto.sealing import Link, Unsealable, decode, encode
from src.core.database import mongo
from src.core.database.purging import purge
from src.core.database.resealing import Resealing
from src.errors import Damaged, Unavailable
from src.files.storage import MongoFileStorage
from src.sealed.ended_files import BATCH, EndedFiles
from src.sealed.holds import derive_claim_id
from src.sealed.items import from_document
from src.sealed.manifests import ManifestSealer
from src.sealed.problems import KeyNotFound
from src.sealed.store import ItemStore
from src.storage import EXPIRING, INDEXES, RESEALABLE

from .conftest import Api
from .processes import PATIENCE
from .secret_files import CONTENTS, content_left, create, download, download_all, held_files, new_upload
from .uploads import storage_of

Serve = Callable[..., Awaitable[Api]]
SIZE = sum(map(len, CONTENTS))


def new_reader() -> str:
    """Return the key of a reader."""
    return secrets.token_urlsafe(32)


async def receive(api: Api, secret_key: str, reader: str) -> int:
    """Confirm a secret, and return the status."""
    return (await api.call("POST", f"/secrets/{secret_key}/received", {"reader": reader}))[0]


async def burn(api: Api, created: Any) -> int:
    """Burn a secret, and return the status."""
    return (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]


@pytest.fixture(autouse=True)
def patient_erasing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests wait for their files to be erased, also on a slow machine."""
    monkeypatch.setattr("src.sealed.ended_files.WAIT_SECONDS", PATIENCE)


async def let_holds_end(api: Api, moment: datetime) -> None:
    """Let all holds end at a moment by MongoDB's clock. If it is past, the server's own sweep may erase their files."""
    await api.items.update_many({"holds": {"$exists": True}}, {"$set": {"holds.$[].until": moment}})
    await api.items.update_many({"files_until": {"$exists": True}}, {"$set": {"files_until": moment}})
    await api.mongo.collection("held").update_many({}, {"$set": {"expires_at": moment}})


async def end_holds(api: Api) -> None:
    """Let all holds end, as MongoDB's clock would."""
    await let_holds_end(api, utc_now() - timedelta(seconds=1))
    _ = [one async for one in purge(api.mongo, INDEXES)]


async def sweep(api: Api) -> None:
    """Erase files that have ended, as every process does periodically."""
    await EndedFiles(api.mongo, storage_of(api)).sweep()


async def test_a_secret_with_files_may_take_longer_to_create(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files need more time than SEALPOST_REQUEST_TIMEOUT; a text alone does not get it."""
    api = await serve(request_timeout=20)
    upload = await new_upload(api, b"large")
    reserve, create_text = MongoFileStorage.reserve, ItemStore.create
    late = 0.0

    async def take_thirty_seconds() -> None:
        nonlocal late
        late += 30
        # Longer than between two looks at the clock.
        await asyncio.sleep(4 * LONGEST_STEP)

    async def slow_reserve(*arguments: Any) -> Any:
        await take_thirty_seconds()
        return await reserve(*arguments)

    async def slow_create(*arguments: Any) -> None:
        await take_thirty_seconds()
        await create_text(*arguments)

    monkeypatch.setattr("src.api.deadlines.time", SimpleNamespace(monotonic=lambda: time.monotonic() + late))
    monkeypatch.setattr(MongoFileStorage, "reserve", slow_reserve)
    monkeypatch.setattr(ItemStore, "create", slow_create)

    assert 201 == (await api.call("POST", "/generate", {"files": [{"upload": upload}]}))[0]
    assert 503 == (await api.call("POST", "/generate", {"secret": "text"}))[0]


async def test_no_time_limit_is_longer_than_a_reservation(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer SEALPOST_REQUEST_TIMEOUT does not let a secret change uploads that another one may have taken."""
    api = await serve(request_timeout=PATIENCE)
    upload = await new_upload(api, b"slow")

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    with monkeypatch.context() as slow:
        slow.setattr("src.sealed.creation.TAKING_SECONDS", 0.1)
        slow.setattr(MongoFileStorage, "reserve", hang)
        assert 503 == (await api.call("POST", "/generate", {"files": [{"upload": upload}]}))[0]

    assert await api.create(files=[{"upload": upload}])


async def test_a_secret_has_files(api: Api) -> None:
    """The status and the receipt tell their number and size, the opening their names, and the reader downloads them."""
    created, reader = await create(api), new_reader()
    path = f"/secrets/{created['secret_key']}"

    _, status = await api.call("GET", path)
    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")
    opened = await api.open(created["secret_key"], reader=reader)

    assert (2, SIZE) == (status["files"], status["files_bytes"]) == (receipt["files"], receipt["files_bytes"])
    assert (200, "the text", 0) == (opened[0], opened[1]["secret"], opened[1]["opens_left"])
    assert ["file-0.txt", "file-1.txt"] == [file["name"] for file in opened[1]["files"]]
    assert [(len(content), "text/plain") for content in CONTENTS] == [
        (file["size"], file["type"]) for file in opened[1]["files"]
    ]
    held = datetime.fromisoformat(opened[1]["held_until"]) - utc_now()
    assert timedelta(seconds=800) < held <= timedelta(seconds=900)
    assert "reader" not in opened[1]
    assert [opened] * 10 == [await api.open(created["secret_key"], reader=reader) for _ in range(10)]
    assert [*CONTENTS] == await download_all(api, created["secret_key"], reader, opened[1])
    assert 204 == await receive(api, created["secret_key"], reader)
    assert {} == await content_left(api)
    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")
    assert ("opened", 2, SIZE) == (receipt["state"], receipt["files"], receipt["files_bytes"])
    assert receipt["received_at"]


async def test_without_files_responses_are_as_before(api: Api) -> None:
    """No new field in any of them, nor in the documents."""
    created, reader = await api.create(), new_reader()
    fresh = await api.items.find_one()

    _, status = await api.call("GET", f"/secrets/{created['secret_key']}")
    _, opened = await api.open(created["secret_key"], reader=reader)
    await receive(api, created["secret_key"], reader)
    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")

    assert {"phrase_required", "opens_left", "created_at", "expires_at"} == set(status)
    assert {"secret", "opens_left", "held_until"} == set(opened)
    assert not {"files", "files_bytes"} & set(receipt)
    for document in (fresh, await api.items.find_one()):
        assert not {"files", "files_until"} & set(document)


@pytest.mark.parametrize("text", [{}, {"secret": ""}])
async def test_files_need_no_text_and_no_name(api: Api, text: dict[str, str]) -> None:
    """The text may be left out or empty; the response has neither name nor type then."""
    status, created = await api.call("POST", "/generate", {"files": [{"upload": await new_upload(api, b"x")}], **text})
    assert 201 == status

    _, opened = await api.open(created["secret_key"])

    assert "" == opened["secret"]
    assert [{"id", "size"}] == [set(file) for file in opened["files"]]


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        ({}, "secret", "is required"),
        ({"files": []}, "secret", "is required"),
        ({"secret": ""}, "secret", "must have at least 1 character"),
        ({"secret": "", "files": []}, "secret", "must have at least 1 character"),
        ({"secret": None}, "secret", "must be a string"),
        ({"secret": None, "files": [{"upload": "A" * 43}]}, "secret", "must be a string"),
        ({"files": {}}, "secret", "is required"),
        ({"secret": "a", "files": {}}, "files", "must be a valid list"),
        ({"files": ["A" * 43]}, "files.0", "must be a JSON object"),
        ({"files": [{}]}, "files.0.upload", "is required"),
        ({"files": [{"upload": "A" * 42}]}, "files.0.upload", "must be the upload in the response to POST /files"),
        ({"files": [{"upload": "A" * 43, "name": "n" * 4097}]}, "files.0.name", "must have at most 4096 characters"),
        ({"files": [{"upload": "A" * 43, "type": "t" * 256}]}, "files.0.type", "must have at most 255 characters"),
        ({"files": [{"upload": "A" * 43, "size": 1}]}, "files.0.size", "is unknown; remove it"),
        ({"files": [{"upload": "A" * 43}] * 2}, "files", "must not repeat an upload"),
        ({"files": [{"upload": "A" * 43}]}, "files.0.upload", "is unknown or has expired"),
        (
            {"files": [{"upload": encode(bytes([n]) * 32)} for n in range(21)]},
            "files",
            "must be at most 20 files",
        ),
    ],
)
async def test_an_invalid_body_is_refused(api: Api, body: Any, field: str, reason: str) -> None:
    """With the field and what to do."""
    status, problem = await api.call("POST", "/generate", body)

    assert (400, "malformed") == (status, problem["code"])
    assert field == problem["errors"][0]["field"]
    assert problem["errors"][0]["reason"].startswith(reason)


async def test_a_hundred_thousand_unknown_fields_of_a_file_are_summed_up(api: Api) -> None:
    """The response lists 20 errors and their number."""
    unknown = {f"f{n}": 1 for n in range(50_000)}

    status, problem = await api.call("POST", "/generate", {"secret": "a", "files": [{"upload": "A" * 43, **unknown}]})

    assert (400, 20) == (status, len(problem["errors"]))
    assert "50000 errors in all" in problem["detail"]


async def test_the_limit_of_files_is_a_setting(serve: Serve) -> None:
    """The error names it."""
    api = await serve(files_max=1)

    status, problem = await api.call(
        "POST", "/generate", {"files": [{"upload": await new_upload(api, b"x")} for _ in range(2)]}
    )

    assert (400, "files: must be at most 1 file.") == (status, problem["detail"])


async def test_files_can_be_switched_off(serve: Serve) -> None:
    """With SEALPOST_FILE_MAX=0 no secret takes files, and those that have some still open."""
    api = await serve()
    created = await create(api)
    off = await serve(file_max=0, mongo_database=api.settings.mongo_database, keys=api.settings.keys)

    status, problem = await off.call("POST", "/generate", {"files": [{"upload": await new_upload(api, b"x")}]})
    _, opened = await off.open(created["secret_key"])

    assert (400, "files: are not accepted by this server.") == (status, problem["detail"])
    assert [*CONTENTS] == await download_all(off, created["secret_key"], opened["reader"], opened)


async def test_an_unusable_upload_leaves_the_others_usable(api: Api) -> None:
    """The error names the upload; the others make a secret."""
    used = await new_upload(api, b"used")
    await api.create(files=[{"upload": used}])
    for bad, reason in (
        (new_reader(), "is unknown or has expired; upload the file again"),
        (await new_upload(api, b"x" * 1500, is_complete=False), "is incomplete; upload the rest first"),
        (used, "is unknown or has expired; upload the file again"),
    ):
        good = await new_upload(api, b"good")

        status, problem = await api.call("POST", "/generate", {"files": [{"upload": good}, {"upload": bad}]})

        assert (400, [{"field": "files.1.upload", "reason": reason}]) == (status, problem["errors"])
        created = await api.create(files=[{"upload": good}])
        _, opened = await api.open(created["secret_key"])
        assert [b"good"] == await download_all(api, created["secret_key"], opened["reader"], opened)


async def end_reservations(api: Api) -> None:
    """Let all reservations of uploads end, as MongoDB's clock would."""
    past = utc_now() - timedelta(seconds=1)
    await api.mongo.collection("uploads").update_many(
        {"reserved_until": {"$exists": True}}, {"$set": {"reserved_until": past}}
    )


async def test_an_upload_is_a_file_of_one_secret(api: Api) -> None:
    """Of requests that use the same upload at once, one succeeds; the others are told so."""
    key = await new_upload(api, b"once")

    answers = await asyncio.gather(*(api.call("POST", "/generate", {"files": [{"upload": key}]}) for _ in range(20)))

    assert Counter({400: 19, 201: 1}) == Counter(status for status, _ in answers)
    reasons = {answer["errors"][0]["reason"] for status, answer in answers if status == 400}
    assert reasons <= {
        "is in use by another request; try again in a minute",
        "is unknown or has expired; upload the file again",
    }
    assert 1 == await api.items.count_documents({})


async def test_an_upload_is_usable_again_after_a_crash(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies between reserving and storing leaves the upload as it was, once the reservation has ended."""
    key = await new_upload(api, b"again")
    item_id, expires_at = bytes(16), utc_now() + timedelta(days=1)
    await storage_of(api).reserve([decode(key) or b""], item_id, expires_at)
    status, refused = await api.call("POST", "/generate", {"files": [{"upload": key}]})
    assert (400, "is in use by another request; try again in a minute") == (status, refused["errors"][0]["reason"])

    reserved = await api.mongo.collection("uploads").find_one()
    await end_reservations(api)
    created = await api.create(files=[{"upload": key}])

    assert timedelta(seconds=50) < reserved["reserved_until"] - utc_now() <= timedelta(seconds=60)
    _, opened = await api.open(created["secret_key"])
    assert [b"again"] == await download_all(api, created["secret_key"], opened["reader"], opened)


@pytest.mark.parametrize("commits", [False, True])
async def test_an_upload_is_usable_again_after_a_failed_transaction(
    api: Api, monkeypatch: pytest.MonkeyPatch, commits: bool
) -> None:
    """At once, not when the reservation ends. If the secret was stored although MongoDB's reply was lost, it is not."""
    key = await new_upload(api, b"again")
    commit = mongo._commit

    async def lose_the_reply(session: Any, is_over: Callable[[], bool]) -> None:
        if commits:
            await commit(session, is_over)
        raise ConnectionFailure

    with monkeypatch.context() as broken:
        broken.setattr(mongo, "_commit", lose_the_reply)
        assert 503 == (await api.call("POST", "/generate", {"files": [{"upload": key}]}))[0]
    async with asyncio.timeout(PATIENCE):
        while await api.mongo.collection("uploads").find_one({"reserved_by": {"$exists": True}}):
            await asyncio.sleep(0.01)

    status, _ = await api.call("POST", "/generate", {"files": [{"upload": key}]})

    assert (400 if commits else 201) == status
    assert 1 == await api.items.count_documents({})


async def test_of_racing_readers_one_gets_the_files(serve: Serve, api: Api) -> None:
    """200 readers over 4 servers, with and without keys: the winner downloads, and all others get 404 throughout."""
    shared = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys}
    servers = [api, *[await serve(**shared) for _ in range(3)]]
    for keyed in (True, False, True):
        created = await create(api)
        key = created["secret_key"]
        readers = [new_reader() for _ in range(200)]

        answers = await asyncio.gather(
            *(servers[n % 4].open(key, **({"reader": one} if keyed else {})) for n, one in enumerate(readers))
        )

        assert Counter({200: 1, 404: 199}) == Counter(status for status, _ in answers)
        [(reader, opened)] = [
            (answer.get("reader", reader), answer)
            for reader, (status, answer) in zip(readers, answers, strict=True)
            if status == 200
        ]
        assert keyed == ("reader" not in opened)
        again = [await servers[n % 4].open(key, reader=reader) for n in range(10)]
        assert [(200, {name: value for name, value in opened.items() if name != "reader"})] * 10 == again
        assert [*CONTENTS] == await download_all(servers[1], key, reader, opened)
        for stranger in [one for one in readers if one != reader][:20]:
            with pytest.raises(KeyNotFound):
                await download(api, key, stranger, opened["files"][0]["id"])
        assert 1 == await api.mongo.collection("held").count_documents({})
        assert 204 == await receive(api, key, reader)
        assert {} == await content_left(api)


async def test_only_the_reader_downloads_and_only_files_of_the_secret(api: Api) -> None:
    """Another link, another reader, another file, or a secret that is not opened: `Key not found`."""
    created, other = await create(api), await create(api)
    reader, other_reader = new_reader(), new_reader()
    with pytest.raises(KeyNotFound):
        await download(api, created["secret_key"], reader, "00" * 16)
    _, opened = await api.open(created["secret_key"], reader=reader)
    _, other_opened = await api.open(other["secret_key"], reader=other_reader)
    file_id, other_id = opened["files"][0]["id"], other_opened["files"][0]["id"]

    for key, who, which in (
        (created["secret_key"], other_reader, file_id),
        (created["secret_key"], new_reader(), file_id),
        (created["secret_key"], reader, other_id),
        (created["secret_key"], reader, "00" * 16),
        (other["secret_key"], reader, file_id),
        ("A" * 43, reader, file_id),
        ("short", reader, file_id),
        (created["secret_key"], "", file_id),
    ):
        with pytest.raises(KeyNotFound):
            await download(api, key, who, which)
    assert [*CONTENTS] == await download_all(api, created["secret_key"], reader, opened)


async def test_a_phrase_protects_files_and_downloads_need_it_no_more(api: Api) -> None:
    """A wrong phrase opens nothing; after the right one, the reader's key suffices for the files."""
    created, reader = await create(api, phrase="right"), new_reader()
    key = created["secret_key"]
    assert "phrase_required" == (await api.open(key, reader=reader))[1]["code"]
    assert "incorrect_phrase" == (await api.open(key, reader=reader, phrase="wrong"))[1]["code"]

    first = await api.open(key, phrase="right")
    reader = first[1].pop("reader")
    again = await api.open(key, reader=reader, phrase="right")

    assert first == again
    assert "incorrect_phrase" == (await api.open(key, reader=reader, phrase="wrong"))[1]["code"]
    assert [*CONTENTS] == await download_all(api, key, reader, first[1])
    assert 204 == await receive(api, key, reader)
    assert {} == await content_left(api)


async def test_the_last_wrong_phrase_erases_the_files(api: Api) -> None:
    """At once, and the receipt still tells how many there were."""
    created = await create(api, phrase="right", max_attempts=2)
    await api.open(created["secret_key"], phrase="wrong")
    assert {"items": 1, "chunks": 4} == await content_left(api)

    await api.open(created["secret_key"], phrase="wrong")

    assert {} == await content_left(api)
    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")
    assert ("locked", 2) == (receipt["state"], receipt["files"])


async def test_wrong_phrases_of_others_end_no_download(api: Api) -> None:
    """A reader who has opened the secret keeps the files when a second one destroys it by guessing."""
    created, reader = await create(api, phrase="right", max_attempts=1, max_opens=2), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader, phrase="right")

    await api.open(created["secret_key"], phrase="wrong")
    await sweep(api)

    assert "locked" == await api.state(created["receipt_key"])
    assert [*CONTENTS] == await download_all(api, created["secret_key"], reader, opened)
    assert 204 == await receive(api, created["secret_key"], reader)
    assert {} == await content_left(api)


async def test_files_are_kept_until_the_last_hold_has_ended(api: Api) -> None:
    """With 3 readers: a reader who confirms ends only its own downloads."""
    created = await create(api, max_opens=3)
    key = created["secret_key"]
    readers = [new_reader() for _ in range(3)]
    opened = [(await api.open(key, reader=reader))[1] for reader in readers[:2]]
    assert 204 == await receive(api, key, readers[0])
    await sweep(api)
    assert [*CONTENTS] == await download_all(api, key, readers[1], opened[1])
    opened.append((await api.open(key, reader=readers[2]))[1])
    assert (404, [2, 1, 0]) == ((await api.open(key))[0], [one["opens_left"] for one in opened])

    for reader, others in ((readers[1], readers[2:]), (readers[2], [])):
        assert 204 == await receive(api, key, reader)
        await sweep(api)
        with pytest.raises(KeyNotFound):
            await download(api, key, reader, opened[0]["files"][0]["id"])
        for other in others:
            assert [*CONTENTS] == await download_all(api, key, other, opened[2])
    assert {} == await content_left(api)


async def test_the_end_of_the_last_hold_erases_the_files(serve: Serve) -> None:
    """By the process itself, with no request, and by MongoDB's clock."""
    api = await serve(file_hold=60)
    created, reader = await create(api), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader)
    assert [*CONTENTS] == await download_all(api, created["secret_key"], reader, opened)
    held_until = datetime.fromisoformat(opened["held_until"])
    assert held_until <= utc_now() + timedelta(seconds=60)
    assert held_until == (await api.items.find_one())["files_until"]

    soon = utc_now() + timedelta(seconds=1)
    await let_holds_end(api, soon)
    async with asyncio.timeout(PATIENCE):
        while "chunks" in await content_left(api):
            await asyncio.sleep(0.1)

    assert utc_now() >= soon
    with pytest.raises(KeyNotFound):
        await download(api, created["secret_key"], reader, opened["files"][0]["id"])
    assert 404 == (await api.open(created["secret_key"], reader=reader))[0]
    # A late confirmation is recorded, and erases nothing twice.
    assert 204 == await receive(api, created["secret_key"], reader)
    assert 0 == await api.items.count_documents({"files_until": {"$exists": True}})


@pytest.mark.parametrize("opens", [0, 1, 2])
async def test_a_burn_erases_the_files(api: Api, opens: int) -> None:
    """Before, between and after openings: no reader can download any more."""
    created = await create(api, max_opens=2)
    readers = [new_reader() for _ in range(opens)]
    opened = [(await api.open(created["secret_key"], reader=reader))[1] for reader in readers]

    assert [204, 404] == [await burn(api, created) for _ in range(2)]

    assert {} == await content_left(api)
    for reader, one in zip(readers, opened, strict=True):
        with pytest.raises(KeyNotFound):
            await download(api, created["secret_key"], reader, one["files"][0]["id"])
    assert 0 == await api.items.count_documents({"files_until": {"$exists": True}})


@pytest.mark.parametrize("end", ["receive", "burn", "lock", "hold"])
async def test_files_are_erased_after_a_crash(api: Api, end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies, or a database that fails, before the files are erased: another process erases them."""

    async def fail(*_: Any) -> None:
        raise Unavailable

    created, reader = await create(api, phrase="p", max_attempts=1), new_reader()
    with monkeypatch.context() as patch:
        patch.setattr("src.files.storage.MongoFileStorage.erase", fail)
        if end == "lock":
            await api.open(created["secret_key"], phrase="wrong")
        else:
            await api.open(created["secret_key"], phrase="p", reader=reader)
        if end == "receive":
            assert 204 == await receive(api, created["secret_key"], reader)
        elif end == "burn":
            assert 204 == await burn(api, created)
        elif end == "hold":
            await end_holds(api)
        with pytest.raises(Unavailable):
            await sweep(api)
        assert {"chunks": 4} == await content_left(api)

    await sweep(api)
    await sweep(api)

    assert {} == await content_left(api)
    assert 0 == await api.items.count_documents({"files_until": {"$exists": True}})


async def test_no_request_waits_long_for_files_to_be_erased(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is sent, and the files are erased in the background, also if the client leaves."""
    erase, may_go_on = MongoFileStorage.erase, asyncio.Event()

    async def slowly(*arguments: Any) -> None:
        await may_go_on.wait()
        await erase(*arguments)

    monkeypatch.setattr(MongoFileStorage, "erase", slowly)
    monkeypatch.setattr("src.sealed.ended_files.WAIT_SECONDS", 0.01)
    created = await create(api)

    assert 204 == await burn(api, created)
    assert {"chunks": 4} == await content_left(api)

    may_go_on.set()
    async with asyncio.timeout(PATIENCE):
        while await content_left(api):
            await asyncio.sleep(0.01)


async def test_the_sweep_erases_any_number_of_items(api: Api) -> None:
    """In rounds, also if one of them was changed in the database."""
    for _ in range(BATCH + 1):
        created = await create(api, [b"x"])
        await api.open(created["secret_key"])
    await api.items.update_one({}, {"$set": {"files": "changed"}})
    await end_holds(api)

    await sweep(api)

    assert {"chunks": 1} == await content_left(api)
    assert 0 == await api.items.count_documents({"files_until": {"$exists": True}})


async def test_the_sweep_reads_only_what_has_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It uses its index, however many items there are."""

    async def fail(*_: Any) -> None:
        raise Unavailable

    # Or the server's own sweep may be first, and leave nothing to read.
    monkeypatch.setattr(MongoFileStorage, "erase", fail)
    for _ in range(3):
        await api.create()
    created = await create(api, [b"x"])
    await api.open(created["secret_key"])
    await end_holds(api)
    query = {"files_until": {"$lte": utc_now()}, "$expr": {"$lte": ["$files_until", "$$NOW"]}}

    command = {"explain": {"find": "items", "filter": query}, "verbosity": "executionStats"}
    explained = await api.mongo.database.command(command)

    assert (1, 1) == tuple(explained["executionStats"][name] for name in ("nReturned", "totalDocsExamined"))


async def test_the_sweep_leaves_what_is_held_or_waiting(api: Api) -> None:
    """No file that a reader may still get is erased."""
    waiting, opened = await create(api, max_opens=2), await create(api)
    await api.open(waiting["secret_key"])
    await api.open(opened["secret_key"])

    await sweep(api)

    assert 8 == (await content_left(api))["chunks"]


async def test_expired_secrets_leave_no_files(api: Api) -> None:
    """The chunks expire with the secret, and nothing can be downloaded after that."""
    created, reader = await create(api, max_opens=2, ttl={"seconds": 60}), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader)
    document = await api.items.find_one()
    chunks = await api.mongo.collection("chunks").find().to_list()
    assert {document["expires_at"]} == {chunk["delete_at"] for chunk in chunks}
    assert created["expires_at"] == opened["held_until"]

    past = utc_now() - timedelta(seconds=1)
    await api.items.update_one({}, {"$set": {"expires_at": past, "delete_at": past, "holds.$[].until": past}})
    for name, field in (("chunks", "delete_at"), ("held", "expires_at")):
        await api.mongo.collection(name).update_many({}, {"$set": {field: past}})

    assert 404 == (await api.open(created["secret_key"]))[0]
    with pytest.raises(KeyNotFound):
        await download(api, created["secret_key"], reader, opened["files"][0]["id"])
    _ = [one async for one in purge(api.mongo, INDEXES)]
    assert {} == await content_left(api)


async def test_a_download_prolongs_the_hold(api: Api) -> None:
    """Of the item, its copy and its files, up to the expiry; only while the opening is held."""
    created, reader = await create(api, max_opens=2), new_reader()
    key = created["secret_key"]
    for who in (new_reader(), reader):
        _, opened = await api.open(key, reader=who)
    async with held_files(api) as files:
        held = await files.find(key, decode(reader) or b"", bytes.fromhex(opened["files"][0]["id"]))
        soon = utc_now() + timedelta(seconds=10)
        await api.items.update_one({}, {"$set": {"holds.$[].until": soon, "files_until": soon}})
        await api.mongo.collection("held").update_many({}, {"$set": {"expires_at": soon}})

        assert await files.keep(held)

        document = await api.items.find_one()
        copies = {one["_id"]: one["expires_at"] async for one in api.mongo.collection("held").find()}
        [other, mine] = document["holds"]
        assert timedelta(seconds=890) < mine["until"] - utc_now() <= timedelta(seconds=900)
        assert mine["until"] == document["files_until"] == copies[mine["id"]]
        assert [other["until"]] * 2 == [copies[other["id"]], soon.replace(microsecond=soon.microsecond // 1000 * 1000)]
        expiry = utc_now() + timedelta(seconds=1000)
        await api.items.update_one({}, {"$set": {"expires_at": expiry}})
        later = (utc_now() + timedelta(seconds=600)).replace(microsecond=0)
        await api.items.update_one({}, {"$set": {"holds.1.until": later, "files_until": later}})
        assert await files.keep(held)
        kept = (await api.items.find_one())["files_until"]
        assert timedelta(seconds=890) < kept - utc_now() <= timedelta(seconds=900)
        # Not again at once, and not past the expiry.
        assert await files.keep(held)
        assert kept == (await api.items.find_one())["files_until"]
        await api.items.update_one({}, {"$set": {"holds.1.until": later, "files_until": later, "expires_at": later}})
        assert await files.keep(held)
        assert later == (await api.items.find_one())["files_until"]

        assert 204 == await receive(api, key, reader)
        assert not await files.keep(held)
        assert 204 == await burn(api, created)
        assert not await files.keep(held)
    assert {} == await content_left(api)


async def test_a_hold_that_has_ended_is_not_prolonged(api: Api) -> None:
    """The files may be erased from then on."""
    created, reader = await create(api), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader)
    async with held_files(api) as files:
        held = await files.find(created["secret_key"], decode(reader) or b"", bytes.fromhex(opened["files"][0]["id"]))
        await end_holds(api)

        assert not await files.keep(held)


async def test_with_holding_switched_off_files_are_held(serve: Serve) -> None:
    """With SEALPOST_HOLD=0 a reader of files may download and ask again; a reader of a text may not."""
    api = await serve(hold=0)
    created, text, reader = await create(api), await api.create(), new_reader()

    first = await api.open(created["secret_key"], reader=reader)
    again = await api.open(created["secret_key"], reader=reader)

    assert (200, first) == (first[0], again)
    assert [*CONTENTS] == await download_all(api, created["secret_key"], reader, first[1])
    assert 404 == (await api.open(created["secret_key"], reader=new_reader()))[0]
    assert 204 == await receive(api, created["secret_key"], reader)
    assert {"items": 1} == await content_left(api)
    assert (200, {"secret": "a secret", "opens_left": 0}) == await api.open(text["secret_key"], reader=reader)
    assert 404 == (await api.open(text["secret_key"], reader=reader))[0]


async def test_the_server_makes_the_key_of_a_reader_without_one(api: Api) -> None:
    """The response has it once; it downloads, asks again and confirms."""
    created = await create(api)
    key = created["secret_key"]

    first = await api.open(key)
    reader = first[1].pop("reader")

    assert 32 == len(decode(reader) or b"")
    assert first == await api.open(key, reader=reader)
    assert 404 == (await api.open(key))[0]
    assert [*CONTENTS] == await download_all(api, key, reader, first[1])
    assert 204 == await receive(api, key, reader)
    assert {} == await content_left(api)


@pytest.mark.parametrize("fields", [{}, {"phrase": "p"}])
async def test_a_stolen_database_discloses_no_file(api: Api, fields: dict[str, Any]) -> None:
    """With the server's keys but without the link: no name, type, byte or key is there, and no manifest opens."""
    created, reader = await create(api, secret="the plaintext", max_opens=2, **fields), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader, **fields)
    database = api.mongo.database
    stolen = b"".join(
        [
            BSON.encode(one)
            for name in await database.list_collection_names()
            for one in await database[name].find().to_list()
        ]
    )
    link, reader_key = Link.parse(created["secret_key"]), decode(reader) or b""
    assert link is not None
    async with held_files(api) as files:
        held = [await files.find(link.text, reader_key, bytes.fromhex(one["id"])) for one in opened["files"]]

    keys = [one for file in held for one in (file.upload_key, encode(file.upload_key).encode())]
    for content in (b"content", b"the plaintext", b"file-0", b"text/plain", link.key, reader_key, *keys):
        assert content not in stolen
    copy = await api.mongo.collection("held").find_one()
    item = from_document(copy["item"])
    manifests = ManifestSealer(read_key_ring(api.settings))
    claim_id = derive_claim_id(link, reader_key)
    assert copy["_id"] == claim_id
    manifests.open(copy["manifest"], link=link, reader_key=reader_key, claim_id=claim_id, item=item)
    for guess, guessed_key in (
        (Link(bytes(32)), reader_key),
        (Link(claim_id * 2), reader_key),
        (link, bytes(32)),
        (link, claim_id * 2),
        (Link.new(), secrets.token_bytes(32)),
    ):
        with pytest.raises(Unsealable):
            manifests.open(copy["manifest"], link=guess, reader_key=guessed_key, claim_id=claim_id, item=item)


CHANGES: list[dict[str, Any]] = [
    {"$unset": {"files": 1}},
    {"$set": {"files": []}},
    {"$set": {"files": None}},
    {"$set": {"files": 7}},
    {"$set": {"files": ["x"]}},
    {"$set": {"files": [{}]}},
    {"$set": {"files.0.size": 1}},
    {"$set": {"files.0.size": -1}},
    {"$set": {"files.0.size": "1"}},
    {"$set": {"files.0.size": 2**40}},
    {"$set": {"files.0.upload": bytes(16)}},
    {"$set": {"files.0.upload": bytes(15)}},
    {"$set": {"files.0.upload": "x"}},
    {"$pop": {"files": 1}},
    {"$pop": {"files": -1}},
    {"$push": {"files": {"upload": bytes(16), "size": 1}}},
    {"$push": {"files": {"$each": [], "$sort": {"size": 1}}}},
]


@pytest.mark.parametrize("change", CHANGES)
async def test_changed_files_are_found(api: Api, change: dict[str, Any]) -> None:
    """An item whose files, sizes or order were changed in the database does not open, and is not used up."""
    created = await create(api)
    original = await api.items.find_one()
    await api.items.update_one({}, change)

    status, problem = await api.open(created["secret_key"])

    assert (410, "damaged") == (status, problem["code"])
    await api.items.replace_one({}, original)
    assert 200 == (await api.open(created["secret_key"]))[0]


@pytest.mark.parametrize("change", CHANGES)
async def test_changed_files_of_an_opened_item_are_found(api: Api, change: dict[str, Any]) -> None:
    """Nothing is downloaded from an item, or shown from a copy, whose files were changed after the opening."""
    created, reader = await create(api), new_reader()
    key = created["secret_key"]
    first = await api.open(key, reader=reader)
    await api.items.update_one({}, change)

    for file in first[1]["files"]:
        with pytest.raises((Damaged, KeyNotFound)):
            await download(api, key, reader, file["id"])

    assert (await api.open(key, reader=reader))[0] in {200, 404}
    copy_change = {name: {f"item.{field}": value for field, value in one.items()} for name, one in change.items()}
    await api.mongo.collection("held").update_one({}, copy_change)
    assert (await api.open(key, reader=reader))[0] in {404, 410}


async def test_a_message_with_files_is_damaged(api: Api) -> None:
    """No route gives a message files; one that was given some in the database does not open."""
    _, message = await api.call("POST", "/", {"message": "hello"})
    await api.items.update_one({}, {"$set": {"files": [{"upload": bytes(16), "size": 1}]}})

    status, _ = await api.send("GET", "/message/" + message["url"].rpartition("/")[2]), None

    assert 410 == status.status


@pytest.mark.parametrize("manifest", [None, b"", b"\x01", 7, "x", b"\x01" + bytes(200), b"\x02" + bytes(200)])
async def test_a_changed_manifest_is_found(api: Api, manifest: Any) -> None:
    """A clear problem, and nothing is downloaded; without a copy, the reader may ask again."""
    created, reader = await create(api), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader)
    file_id = opened["files"][0]["id"]
    held = api.mongo.collection("held")
    await held.update_one({}, {"$set": {"manifest": manifest}} if manifest is not None else {"$unset": {"manifest": 1}})

    with pytest.raises(Damaged):
        await download(api, created["secret_key"], reader, file_id)

    await held.delete_many({})
    with pytest.raises(Unavailable):
        await download(api, created["secret_key"], reader, file_id)


async def test_the_manifest_of_another_claim_opens_nothing(api: Api) -> None:
    """A manifest is bound to its claim, also if the same reader has opened both secrets."""
    reader = new_reader()
    one, other = await create(api), await create(api)
    _, opened = await api.open(one["secret_key"], reader=reader)
    await api.open(other["secret_key"], reader=reader)
    held = api.mongo.collection("held")
    [first, second] = await held.find().to_list()
    await held.update_one({"_id": first["_id"]}, {"$set": {"manifest": second["manifest"]}})
    await held.update_one({"_id": second["_id"]}, {"$set": {"manifest": first["manifest"]}})

    with pytest.raises(Damaged):
        await download(api, one["secret_key"], reader, opened["files"][0]["id"])


async def test_a_manifest_keeps_its_key_in_use(serve: Serve) -> None:
    """Until the hold ends, the key that seals the manifest and the chunks may not be dropped."""
    api = await serve(audit_ttl=0)  # its events are sealed as well
    created = await create(api)
    await api.open(created["secret_key"])
    old = read_key_ring(api.settings).newest
    entry = f"new:{'A' * 43}=,{api.settings.keys.get_secret_value()}"  # type: ignore[union-attr]
    resealing = Resealing(api.mongo, KeyRing.parse(entry), RESEALABLE, EXPIRING)

    during = await resealing.uses()
    await end_holds(api)
    await sweep(api)
    after = await resealing.uses()

    assert [("new", {}), (old, {"held": 1, "chunks": 4})] == [(use.key_id, use.waiting) for use in during.keys]
    assert [False, True] == [after.may_be_dropped(use) for use in after.keys]


async def test_files_under_a_missing_key_are_unavailable(api: Api) -> None:
    """The operator can put the key back."""
    created, reader = await create(api), new_reader()
    _, opened = await api.open(created["secret_key"], reader=reader)
    await api.items.update_one({}, {"$set": {"key_id": "elsewhere"}})

    with pytest.raises(Unavailable):
        await download(api, created["secret_key"], reader, opened["files"][0]["id"])


async def test_any_name_and_type_reach_the_reader(api: Api) -> None:
    """They are data: control characters, quotes, any script, and the longest ones."""
    names = ["", "\0", '"\\\n', "../../etc/passwd", "名前.txt", "\u202egpj.exe", "😀" * 4096, "n" * 4096]
    files = [{"upload": await new_upload(api, b"x"), "name": name, "type": name[:255]} for name in names]
    created = await api.create(files=files)

    _, opened = await api.open(created["secret_key"])

    assert [(name, name[:255]) for name in names] == [(one["name"], one["type"]) for one in opened["files"]]
    async with held_files(api) as found:
        for one in opened["files"]:
            held = await found.find(created["secret_key"], decode(opened["reader"]) or b"", bytes.fromhex(one["id"]))
            assert (one["name"], one["type"]) == (held.name, held.media_type)
