"""The storage of files: an upload becomes the file of one item, and is read only as it was uploaded."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from src.core.clock import utc_now
from src.core.crypto.keys import KEY_BYTES, KeyRing, read_key_ring
from src.core.crypto.sealing import Unsealable, decode, encode
from src.core.database.purging import delete_expired
from src.core.stored_files import FileStorage, StoredFile, UnusableUpload
from src.errors import Damaged, Unavailable
from src.files.chunk_sealing import CHUNK_BYTES, ChunkSealer, derive_upload_id
from src.files.storage import MongoFileStorage
from src.files.uploads import LIFE

from .conftest import Api
from .test_tampering import tampered
from .uploads import create, offset_of, patch, storage_of, upload

PARTS = (b"first part, ", b"second part, ", b"third part")
CONTENT = b"".join(PARTS)
WEEK = timedelta(days=7)


def new_id() -> bytes:
    """Return the id of some item."""
    return secrets.token_bytes(16)


async def read(storage: FileStorage, key: bytes, file: StoredFile, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes of a file."""
    return b"".join([part async for part in storage.read(key, file, start, file.size if stop is None else stop)])


async def take(api: Api, storage: MongoFileStorage, item_id: bytes, files: list[StoredFile]) -> None:
    """Take files in a transaction of their own."""

    async def work(session: Any) -> None:
        await storage.take(session, item_id, files)

    await api.mongo.transact(work)


async def stored(api: Api, *parts: bytes) -> tuple[MongoFileStorage, bytes, StoredFile]:
    """Upload parts and take them for an item; return the storage, the key and the file."""
    storage, key, item_id = storage_of(api), await upload(api, *parts), new_id()
    files = await storage.reserve([key], item_id, utc_now() + WEEK)
    await take(api, storage, item_id, files)
    return storage, key, files[0]


async def test_a_file_is_read_as_it_was_uploaded(api: Api) -> None:
    """Any range of it, whatever requests it came in."""
    storage, key, file = await stored(api, *PARTS)

    assert StoredFile(derive_upload_id(key), len(CONTENT)) == file
    for start in range(len(CONTENT) + 1):
        for stop in range(start, len(CONTENT) + 1):
            assert CONTENT[start:stop] == await read(storage, key, file, start, stop)
    assert CONTENT[5:] == await read(storage, key, file, 5, 10**9)


async def test_a_large_request_becomes_several_chunks(api: Api) -> None:
    """Each has at most 1 MiB, and the reader yields one at a time."""
    content = secrets.token_bytes(2 * CHUNK_BYTES + 5)
    storage, key, file = await stored(api, content)

    parts = [part async for part in storage.read(key, file, 1, file.size)]

    assert [CHUNK_BYTES - 1, CHUNK_BYTES, 5] == [len(part) for part in parts]
    assert content[1:] == b"".join(parts)


async def test_an_empty_file_has_no_chunks(api: Api) -> None:
    """It is complete at once, and reading it yields nothing."""
    storage, key, file = await stored(api)

    assert 0 == file.size
    assert b"" == await read(storage, key, file)


async def test_a_taken_upload_is_gone_for_its_sender(api: Api) -> None:
    """HEAD and DELETE answer 404, and its chunks live as long as the item."""
    _, key, file = await stored(api, *PARTS)

    assert 404 == (await api.send("HEAD", f"/files/{encode(key)}")).status
    assert 404 == (await api.send("DELETE", f"/files/{encode(key)}")).status
    chunks = await api.mongo.collection("chunks").find().to_list(None)
    assert len(PARTS) == len(chunks)
    for chunk in chunks:
        assert file.upload_id == chunk["_id"][:16]
        assert timedelta(minutes=-1) < chunk["delete_at"] - utc_now() - WEEK <= timedelta(0)


async def test_only_complete_uploads_can_be_used(api: Api) -> None:
    """The error tells which one is not, and why."""
    storage, item_id, until = storage_of(api), new_id(), utc_now() + WEEK
    whole, other = await upload(api, CONTENT), await upload(api, b"other")
    half = await create(api, 10)
    await patch(api, half, 0, b"half")
    half_key = decode(half) or b""
    expired = await upload(api, b"expired")
    await api.mongo.collection("uploads").update_one(
        {"_id": derive_upload_id(expired)}, {"$set": {"delete_at": utc_now() - timedelta(seconds=1)}}
    )
    await storage.reserve([other], new_id(), until)

    for key, reason in (
        (bytes(KEY_BYTES), "unknown or expired"),
        (expired, "unknown or expired"),
        (half_key, "incomplete"),
        (other, "in use"),
    ):
        with pytest.raises(UnusableUpload, match=reason) as refused:
            await storage.reserve([whole, key], item_id, until)

        assert (1, reason) == (refused.value.position, refused.value.reason)
    assert await storage.reserve([whole], new_id(), until)


async def test_a_failed_release_hides_no_reason(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """If MongoDB fails just then, the client still learns which upload is unusable."""

    async def fail(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr("src.files.uploads.UploadStore.release", fail)
    with pytest.raises(UnusableUpload, match="unknown or expired"):
        await storage_of(api).reserve([bytes(KEY_BYTES)], new_id(), utc_now() + WEEK)


async def test_an_item_may_reserve_again(api: Api) -> None:
    """A request that is repeated gets the same files."""
    storage, item_id, key = storage_of(api), new_id(), await upload(api, CONTENT)

    first = await storage.reserve([key], item_id, utc_now() + WEEK)

    assert first == await storage.reserve([key], item_id, utc_now() + WEEK)


async def test_an_upload_becomes_the_file_of_one_item(api: Api) -> None:
    """Of many items that want it at once, exactly one gets it."""
    storage, key = storage_of(api), await upload(api, *PARTS)

    async def use(item_id: bytes) -> bool:
        try:
            await take(api, storage, item_id, await storage.reserve([key], item_id, utc_now() + WEEK))
        except UnusableUpload:
            return False
        return True

    assert [True] == [used for used in await asyncio.gather(*(use(new_id()) for _ in range(8))) if used]


async def test_a_reservation_ends(api: Api) -> None:
    """After 60 seconds, another item may reserve the upload, and the first one can no longer take it."""
    storage, key, slow, fast = storage_of(api), await upload(api, CONTENT), new_id(), new_id()
    files = await storage.reserve([key], slow, utc_now() + WEEK)
    await api.mongo.collection("uploads").update_one({}, {"$set": {"reserved_until": utc_now() - timedelta(seconds=1)}})

    assert files == await storage.reserve([key], fast, utc_now() + WEEK)
    with pytest.raises(Unavailable, match="used or deleted"):
        await take(api, storage, slow, files)
    await take(api, storage, fast, files)


async def test_a_failed_transaction_takes_nothing(api: Api) -> None:
    """An item with one unusable upload leaves the others unused."""
    storage, item_id = storage_of(api), new_id()
    keys = [await upload(api, b"one"), await upload(api, b"two")]
    files = await storage.reserve(keys, item_id, utc_now() + WEEK)
    assert 204 == (await api.send("DELETE", f"/files/{encode(keys[1])}")).status

    with pytest.raises(Unavailable):
        await take(api, storage, item_id, files)

    assert 3 == await offset_of(api, encode(keys[0]))
    assert await storage.reserve(keys[:1], item_id, utc_now() + WEEK)


async def test_an_upload_in_its_last_second_is_used_whole_or_not_at_all(api: Api) -> None:
    """If a chunk has expired already, the upload has; otherwise it lives until the reservation ends."""
    storage, until = storage_of(api), utc_now() + WEEK
    whole, partly = await upload(api, *PARTS), await upload(api, *PARTS)
    await api.mongo.collection("uploads").update_many({}, {"$set": {"delete_at": utc_now() + timedelta(seconds=20)}})
    await api.mongo.collection("chunks").delete_one({"_id": derive_upload_id(partly) + bytes(8)})

    await storage.reserve([whole], new_id(), until)
    with pytest.raises(UnusableUpload, match="unknown or expired"):
        await storage.reserve([partly], new_id(), until)

    document = await api.mongo.collection("uploads").find_one({"_id": derive_upload_id(whole)})
    assert document["delete_at"] > utc_now() + timedelta(seconds=25)


async def test_a_reservation_does_not_shorten_the_life_of_an_upload(api: Api) -> None:
    """If creating the secret fails, the upload can be used for another one."""
    storage, key = storage_of(api), await upload(api, CONTENT)
    await storage.reserve([key], new_id(), utc_now() + WEEK)

    document = await api.mongo.collection("uploads").find_one()

    assert document["delete_at"] > utc_now() + LIFE - timedelta(minutes=1)


async def test_erased_files_are_gone(api: Api) -> None:
    """Other files stay, and erasing again changes nothing."""
    storage, key, file = await stored(api, *PARTS)
    _, other_key, other = await stored(api, *PARTS)

    await storage.erase([file])
    await storage.erase([file])
    await storage.erase([])

    with capture_logs() as logs, pytest.raises(Damaged):
        await read(storage, key, file)
    assert [] == logs
    assert CONTENT == await read(storage, other_key, other)


@pytest.mark.parametrize("number", [3, 4, 5])
async def test_a_file_may_have_more_chunks_than_one_command_changes(
    api: Api, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """All of them are kept with the item, and erased."""
    monkeypatch.setattr("src.files.chunks.BATCH", 2)
    storage, _, file = await stored(api, *[b"part"] * number)
    kept = [document["delete_at"] async for document in api.mongo.collection("chunks").find()]

    assert number == sum(delete_at > utc_now() + WEEK - LIFE for delete_at in kept)
    await storage.erase([file])
    assert 0 == await api.mongo.collection("chunks").count_documents({})


async def test_a_purge_deletes_few_chunks_at_a_time(
    serve: Callable[..., Awaitable[Api]], own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command deletes more than 128 MiB of chunks, or it would exceed its timeout on a slow disk."""
    api = await serve(mongo_database=own_database)
    deleted: list[int] = []
    chunks = api.mongo.collection("chunks")
    # MongoDB deletes none of them meanwhile.
    await chunks.drop_index("delete_at")
    past, delete_many = utc_now() - timedelta(seconds=1), chunks.delete_many
    await chunks.insert_many([{"_id": secrets.token_bytes(24), "delete_at": past} for _ in range(300)])

    async def count(query: Any) -> Any:
        result = await delete_many(query)
        deleted.append(result.deleted_count)
        return result

    monkeypatch.setattr(chunks, "delete_many", count)
    await delete_expired(chunks, "delete_at", utc_now())

    assert 300 == sum(deleted)
    assert max(deleted) * CHUNK_BYTES <= 128 * 1024 * 1024
    assert 0 == await chunks.count_documents({})


async def test_uploads_that_no_item_uses_keep_their_expiry(api: Api) -> None:
    """One unusable upload among them, and the content of the others is deleted after a day."""
    storage, key = storage_of(api), await upload(api, *PARTS)
    with pytest.raises(UnusableUpload):
        await storage.reserve([key, secrets.token_bytes(KEY_BYTES)], new_id(), utc_now() + WEEK)

    kept = [document["delete_at"] async for document in api.mongo.collection("chunks").find()]

    assert len(PARTS) == sum(delete_at <= utc_now() + LIFE for delete_at in kept)


async def test_a_modified_chunk_is_never_handed_out(api: Api) -> None:
    """With any byte changed, or any field removed or of another type, the reader raises before that chunk."""
    storage, key, file = await stored(api, *PARTS)
    chunks = api.mongo.collection("chunks")
    original = await chunks.find_one({"_id": file.upload_id + (len(PARTS[0])).to_bytes(8, "big")})
    tried = 0
    for described, document in tampered(original):
        if "delete_at" in described:
            continue
        tried += 1
        await chunks.replace_one({"_id": original["_id"]}, document)

        found = []
        with pytest.raises((Damaged, Unavailable)) as refused:
            found += [part async for part in storage.read(key, file, 0, file.size)]

        # A changed key id may be that of a key missing from the ring.
        assert described.startswith("key_id=") or refused.type is Damaged, described
    assert tried > 40

    await chunks.replace_one({"_id": original["_id"]}, original)
    assert CONTENT == await read(storage, key, file)


@pytest.mark.parametrize("missing", range(len(PARTS)))
async def test_a_missing_chunk_is_noticed(api: Api, missing: int) -> None:
    """The parts before it are handed out, and then the reader raises."""
    storage, key, file = await stored(api, *PARTS)
    start = len(b"".join(PARTS[:missing]))
    await api.mongo.collection("chunks").delete_one({"_id": file.upload_id + start.to_bytes(8, "big")})

    reading = storage.read(key, file, 0, file.size)

    assert list(PARTS[:missing]) == [await anext(reading) for _ in range(missing)]
    with pytest.raises(Damaged):
        await anext(reading)
    # Also if the range begins in it.
    with pytest.raises(Damaged):
        await read(storage, key, file, start + 1)


async def test_chunks_cannot_change_places(api: Api) -> None:
    """Neither within a file nor between files, nor as a shorter file."""
    storage, key, file = await stored(api, b"aaaa", b"bbbb", b"cccc")
    chunks = api.mongo.collection("chunks")
    _, other_key, other = await stored(api, b"AAAA", b"BBBB", b"CCCC")
    first, second = (file.upload_id + start.to_bytes(8, "big") for start in (0, 4))
    one, two = await chunks.find_one({"_id": first}), await chunks.find_one({"_id": second})
    foreign = await chunks.find_one({"_id": other.upload_id + bytes(8)})

    with pytest.raises(Damaged):
        await read(storage, key, StoredFile(file.upload_id, 8))
    with pytest.raises(Damaged):
        await read(storage, other_key, file)
    for swapped in (two, foreign):
        await chunks.replace_one({"_id": first}, {**swapped, "_id": first})
        with pytest.raises(Damaged):
            await read(storage, key, file)
    await chunks.replace_one({"_id": first}, one)
    assert b"aaaabbbbcccc" == await read(storage, key, file)


async def test_a_chunk_that_overlaps_is_refused(api: Api) -> None:
    """After a chunk, the next one must begin exactly at its end, even if the chunk in between is authentic."""
    storage, key, file = await stored(api, b"aaaa", b"bbbb")
    sealer = ChunkSealer(read_key_ring(api.settings), key)
    key_id, data = sealer.seal(b"xxxxx", start=2, size=8)
    chunks = api.mongo.collection("chunks")
    await chunks.insert_one({"_id": file.upload_id + (2).to_bytes(8, "big"), "key_id": key_id, "data": data})
    await chunks.delete_one({"_id": file.upload_id + (4).to_bytes(8, "big")})

    with pytest.raises(Damaged):
        await read(storage, key, file)


async def test_a_key_that_the_ring_lacks_is_no_damage(api: Api) -> None:
    """The answer is 503, and the log says which file; with the key, the file opens again."""
    _, key, file = await stored(api, CONTENT)
    storage = storage_of(api, KeyRing([("another", bytes(KEY_BYTES))]))

    with capture_logs() as logs, pytest.raises(Unavailable, match="lacks the key"):
        await read(storage, key, file)

    assert ["file cannot be decrypted: its key is not in the key ring"] == [entry["event"] for entry in logs]
    assert file.upload_id.hex() == logs[0]["upload_id"]
    assert CONTENT == await read(storage_of(api), key, file)


def test_a_chunk_opens_only_with_its_upload_and_at_its_place() -> None:
    """Any other key, start or size, and any change of the data, is refused."""
    ring = KeyRing([("k", bytes(KEY_BYTES))])
    sealer = ChunkSealer(ring, b"u" * KEY_BYTES)
    key_id, data = sealer.seal(b"content", start=10, size=17)

    assert b"content" == sealer.open(data, key_id=key_id, start=10, size=17)
    for changed, start, size in (
        (data, 9, 16),
        (data, 10, 18),
        (data[:-1], 10, 16),
        (b"\x02" + data[1:], 10, 17),
        (b"", 10, 17),
        (data[:29], 10, 17),
    ):
        with pytest.raises(Unsealable):
            sealer.open(changed, key_id=key_id, start=start, size=size)
    with pytest.raises(Unsealable):
        sealer.open(data, key_id="another", start=10, size=17)
    with pytest.raises(Unsealable):
        ChunkSealer(ring, b"v" * KEY_BYTES).open(data, key_id=key_id, start=10, size=17)
