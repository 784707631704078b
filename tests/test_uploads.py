"""Uploads over HTTP: the tus protocol, resumable after any interruption, within the limits of the service."""

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymongo.errors import ConnectionFailure

from src.api import streamed_bodies
from src.core.clock import utc_now
from src.core.crypto.keys import KEY_BYTES
from src.core.crypto.sealing import decode, encode
from src.core.database import storage_budget
from src.core.stored_files import StoredFile
from src.errors import Malformed, Unavailable
from src.files import uploading
from src.files.chunk_sealing import CHUNK_BYTES, derive_upload_id
from src.files.chunks import ChunkStore
from src.files.headers import LENGTH, check_metadata, parse_checksum, parse_number
from src.files.problems import ChecksumMismatch, UnsupportedChecksum
from src.files.uploading import largest_upload
from src.files.uploads import UploadStore

from .conftest import Api
from .processes import PATIENCE
from .uploads import MEDIA_TYPE, create, offset_of, patch, storage_of

Serve = Callable[..., Awaitable[Api]]

SMALL = 1000
UNKNOWN = encode(bytes(KEY_BYTES))


async def read(api: Api, upload: str, size: int) -> bytes:
    """Return the stored content of an upload."""
    key = decode(upload) or b""
    file = StoredFile(derive_upload_id(key), size)
    return b"".join([part async for part in storage_of(api).read(key, file, 0, size)])


async def chunks_of(api: Api) -> int:
    """Return the number of stored chunks."""
    return int(await api.mongo.collection("chunks").count_documents({}))


def checksum(data: bytes, algorithm: str = "sha256") -> str:
    """Return the value of `Upload-Checksum`."""
    return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"


@asynccontextmanager
async def sending(
    api: Api, upload: str, offset: int, length: int, **headers: str
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Begin a request over a connection of its own, and leave the body to the test."""
    host, port = api.client.host, api.client.port
    reader, writer = await asyncio.open_connection(host, port)
    lines = {"Host": f"{host}:{port}", "Content-Type": MEDIA_TYPE, "Upload-Offset": str(offset), **headers}
    lines["Content-Length"] = str(length)
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"PATCH /files/{upload} HTTP/1.1\r\n{text}\r\n".encode())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def status_of(reader: asyncio.StreamReader) -> int:
    """Return the status of the response."""
    async with asyncio.timeout(PATIENCE):
        return int((await reader.readline()).split()[1])


async def reaches(api: Api, upload: str, offset: int) -> None:
    """Wait until the upload has an offset."""
    async with asyncio.timeout(PATIENCE):
        while await offset_of(api, upload) < offset:
            await asyncio.sleep(0.01)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let chunks have at most 1000 bytes."""
    monkeypatch.setattr(uploading, "CHUNK_BYTES", SMALL)


@pytest.fixture
def as_served(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a handler finish if its client leaves, as it does outside aiohttp's test server."""
    server: Any = api.client.server
    monkeypatch.setattr(server.runner.server, "handler_cancellation", False)


@pytest.mark.parametrize("path", ["/files", f"/files/{UNKNOWN}"])
async def test_the_server_says_what_it_supports(api: Api, path: str) -> None:
    """Version, extensions, maximum size and checksums, also for another version of the protocol."""
    answer = await api.send("OPTIONS", path, None, **{"Tus-Resumable": "0.2.2"})

    assert (204, b"") == (answer.status, answer.body)
    assert {
        "Tus-Resumable": "1.0.0",
        "Tus-Version": "1.0.0",
        "Tus-Extension": "creation,expiration,termination,checksum",
        "Tus-Max-Size": str(104_857_600 + 1600 * 16),
        "Sealpost-Files-Max": "20",
        "Tus-Checksum-Algorithm": "sha1,sha256",
    } == {name: value for name, value in answer.headers.items() if name.startswith(("Tus-", "Sealpost-"))}


def test_the_maximum_leaves_space_for_encryption_by_the_client() -> None:
    """16 bytes for each 64 KiB that a file begins."""
    assert [1 + 16, 65_536 + 16, 65_537 + 32] == [largest_upload(size) for size in (1, 65_536, 65_537)]


async def test_an_upload_in_three_requests(api: Api) -> None:
    """Create, send, continue; the responses have the offset, the URL and the expiry."""
    created = await api.send("POST", "/files", None, **{"Upload-Length": "11", "Tus-Resumable": "1.0.0"})
    upload = created.json()["upload"]

    assert 201 == created.status
    assert 43 == len(upload)
    assert created.headers["Location"].endswith(f"/files/{upload}")
    assert created.headers["Location"].startswith("http://127.0.0.1:")
    expires = parsedate_to_datetime(created.headers["Upload-Expires"])
    assert timedelta(hours=23) < expires - utc_now() <= timedelta(days=1)

    looked = await api.send("HEAD", f"/files/{upload}")
    assert (200, "0", "11") == (looked.status, looked.headers["Upload-Offset"], looked.headers["Upload-Length"])
    assert "no-store" in looked.headers["Cache-Control"]

    first = await patch(api, upload, 0, b"hello ")
    assert (204, "6") == (first.status, first.headers["Upload-Offset"])
    assert created.headers["Upload-Expires"] == first.headers["Upload-Expires"]
    assert 204 == (await patch(api, upload, 6, b"world")).status
    assert 204 == (await patch(api, upload, 11, b"")).status

    assert 11 == await offset_of(api, upload)
    assert b"hello world" == await read(api, upload, 11)


async def test_every_response_has_the_version(api: Api) -> None:
    """Also errors, and paths that do not exist; no response elsewhere has it."""
    for method, path, status in (
        ("POST", "/files", 400),
        ("GET", "/files", 405),
        ("GET", f"/files/{UNKNOWN}", 405),
        ("HEAD", f"/files/{UNKNOWN}", 404),
        ("PATCH", f"/files/{UNKNOWN}", 415),
        ("DELETE", "/files/nonsense", 404),
        ("GET", "/files/a/b", 404),
    ):
        answer = await api.send(method, path)

        assert (status, "1.0.0") == (answer.status, answer.headers.get("Tus-Resumable")), (method, path)
    assert "Tus-Resumable" not in (await api.send("GET", "/hello")).headers
    assert "Tus-Resumable" not in (await api.send("GET", "/filesystem")).headers


async def test_another_version_is_refused(api: Api) -> None:
    """With 412 and the supported version, and nothing happens."""
    upload = await create(api, 5)
    for method, path, headers in (
        ("POST", "/files", {"Upload-Length": "5"}),
        ("HEAD", f"/files/{upload}", {}),
        ("PATCH", f"/files/{upload}", {"Upload-Offset": "0", "Content-Type": MEDIA_TYPE}),
        ("DELETE", f"/files/{upload}", {}),
    ):
        answer = await api.send(method, path, b"hello", **{"Tus-Resumable": "0.2.2", **headers})

        assert (412, "1.0.0") == (answer.status, answer.headers["Tus-Version"])
    assert 0 == await offset_of(api, upload)


async def test_a_malformed_creation_is_refused(api: Api) -> None:
    """The error names the header and the reason."""
    for headers, code, status in (
        ({}, "malformed", 400),
        ({"Upload-Defer-Length": "1"}, "malformed", 400),
        ({"Upload-Length": "-1"}, "malformed", 400),
        ({"Upload-Length": "1e3"}, "malformed", 400),
        ({"Upload-Length": "1" * 16}, "malformed", 400),
        ({"Upload-Length": str(largest_upload(api.settings.file_max) + 1)}, "too_large", 413),
        ({"Upload-Length": "5", "Upload-Metadata": "filename not_base64"}, "malformed", 400),
    ):
        answer = await api.send("POST", "/files", None, **headers)

        assert (status, code) == (answer.status, answer.json()["code"]), headers
    assert 0 == await api.mongo.collection("uploads").count_documents({})


async def test_metadata_is_not_stored(api: Api) -> None:
    """It would disclose names."""
    name = base64.b64encode(b"a secret name.txt").decode()

    await create(api, 5, **{"Upload-Metadata": f"filename {name},is_confidential"})

    assert {"_id", "size", "offset", "chunks", "writer", "created_at", "delete_at"} == set(
        await api.mongo.collection("uploads").find_one()
    )


async def test_a_malformed_request_stores_nothing(api: Api) -> None:
    """Wrong offset, type, checksum or encoding: each has its own status."""
    upload = await create(api, 5)
    for headers, status, code in (
        ({"Upload-Offset": "1"}, 409, "offset_conflict"),
        ({"Upload-Offset": "x"}, 400, "malformed"),
        ({"Content-Type": "application/octet-stream"}, 415, "unsupported_media_type"),
        ({"Upload-Checksum": checksum(b"hellO")}, 460, "checksum_mismatch"),
        ({"Upload-Checksum": "md5 XUFAKrxLKna5cZ2REBfFkg=="}, 400, "unsupported_checksum"),
        ({"Upload-Checksum": "sha1 ?"}, 400, "unsupported_checksum"),
        ({"Upload-Checksum": "sha1"}, 400, "unsupported_checksum"),
        ({"Content-Encoding": "gzip"}, 400, "malformed"),
    ):
        answer = await patch(api, upload, 0, b"hello", **headers)

        assert (status, code) == (answer.status, answer.json()["code"]), headers
    without = await api.send("PATCH", f"/files/{upload}", b"hello", **{"Content-Type": MEDIA_TYPE})
    assert 400 == without.status
    assert "0" == (await patch(api, upload, 3, b"lo")).headers["Upload-Offset"]
    assert (0, 0) == (await offset_of(api, upload), await chunks_of(api))


@pytest.mark.parametrize("key", [UNKNOWN, "short", "x" * 44, "é" * 43, UNKNOWN[:-1] + "B"])
async def test_an_unknown_key_is_not_found(api: Api, key: str) -> None:
    """Whatever the request."""
    for method in ("HEAD", "PATCH", "DELETE"):
        headers = {"Upload-Offset": "0", "Content-Type": MEDIA_TYPE}
        answer = await api.send(method, f"/files/{key}", b"x" if method == "PATCH" else None, **headers)

        assert 404 == answer.status
        if method != "HEAD":
            assert "upload_not_found" == answer.json()["code"]


async def test_a_deleted_upload_is_gone(api: Api) -> None:
    """With its content."""
    upload = await create(api, 10)
    await patch(api, upload, 0, b"hello")

    assert 204 == (await api.send("DELETE", f"/files/{upload}")).status

    assert 404 == (await api.send("DELETE", f"/files/{upload}")).status
    assert 404 == (await api.send("HEAD", f"/files/{upload}")).status
    assert 404 == (await patch(api, upload, 5, b"world")).status
    assert 0 == await chunks_of(api)


async def test_an_expired_upload_is_gone_before_mongodb_deletes_it(api: Api) -> None:
    """By MongoDB's clock, for every request, also for one that is being sent."""
    upload = await create(api, 3 * CHUNK_BYTES)
    async with sending(api, upload, 0, 3 * CHUNK_BYTES) as (reader, writer):
        writer.write(bytes(CHUNK_BYTES))
        await reaches(api, upload, CHUNK_BYTES)
        # The TTL index would delete it soon, so no request may depend on whether it has.
        await api.mongo.collection("uploads").update_one({}, {"$set": {"delete_at": utc_now() - timedelta(seconds=1)}})
        writer.write(bytes(2 * CHUNK_BYTES))

        assert 404 == await status_of(reader)
    assert 404 == (await api.send("HEAD", f"/files/{upload}")).status
    assert 404 == (await patch(api, upload, CHUNK_BYTES, b"more")).status
    assert 404 == (await api.send("DELETE", f"/files/{upload}")).status


async def test_an_empty_file_is_complete_at_once(api: Api) -> None:
    """It needs no PATCH, and accepts an empty one."""
    upload = await create(api, 0)

    assert 0 == await offset_of(api, upload)
    assert 204 == (await patch(api, upload, 0, b"")).status
    assert 413 == (await patch(api, upload, 0, b"x")).status


async def test_more_bytes_than_announced_are_refused(api: Api, small_chunks: None) -> None:
    """With 413: at once if the request has a length, and otherwise without storing bytes past the end."""
    upload = await create(api, 1500)

    async def body() -> AsyncIterator[bytes]:
        yield bytes(1200)
        yield bytes(1200)

    refused = await patch(api, upload, 0, bytes(1501))
    assert (413, "too_large") == (refused.status, refused.json()["code"])
    assert 0 == await offset_of(api, upload)
    headers = {"Upload-Offset": "0", "Content-Type": MEDIA_TYPE}
    async with api.client.patch(f"/files/{upload}", data=body(), headers=headers) as answer:
        assert 413 == answer.status
    assert SMALL == await offset_of(api, upload)
    assert 204 == (await patch(api, upload, SMALL, bytes(500))).status


async def test_a_chunked_body_is_stored(api: Api) -> None:
    """Without Content-Length."""
    upload = await create(api, 11)

    async def body() -> AsyncIterator[bytes]:
        yield b"hello "
        yield b"world"

    headers = {"Upload-Offset": "0", "Content-Type": MEDIA_TYPE}
    async with api.client.patch(f"/files/{upload}", data=body(), headers=headers) as answer:
        assert (204, "11") == (answer.status, answer.headers["Upload-Offset"])
    assert b"hello world" == await read(api, upload, 11)


async def test_what_arrives_before_the_connection_breaks_stays(
    api: Api, as_served: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client continues at the offset, although the request announced more bytes."""
    content = secrets.token_bytes(CHUNK_BYTES + 5000)
    upload = await create(api, len(content))
    received, read_some = bytearray(), streamed_bodies.StreamedBody._read

    async def read_noted(body: streamed_bodies.StreamedBody) -> bytes:
        data = await read_some(body)
        received.extend(data)
        return data

    monkeypatch.setattr(streamed_bodies.StreamedBody, "_read", read_noted)

    async with sending(api, upload, 0, len(content)) as (_, writer):
        writer.write(content[: CHUNK_BYTES + 1000])
        # What the kernel has not handed to the server would be lost.
        async with asyncio.timeout(PATIENCE):
            while len(received) < CHUNK_BYTES + 1000:
                await asyncio.sleep(0.01)
    await reaches(api, upload, CHUNK_BYTES + 1000)

    assert 204 == (await patch(api, upload, CHUNK_BYTES + 1000, content[CHUNK_BYTES + 1000 :])).status
    assert content == await read(api, upload, len(content))


async def test_a_broken_connection_leaves_nothing_of_a_request_with_checksum(
    api: Api, as_served: None, small_chunks: None
) -> None:
    """Chunks that nobody can see are deleted."""
    upload = await create(api, 5000)

    async with sending(api, upload, 0, 5000, **{"Upload-Checksum": checksum(bytes(5000))}) as (_, writer):
        writer.write(bytes(2500))
        async with asyncio.timeout(PATIENCE):
            while await chunks_of(api) < 2:
                await asyncio.sleep(0.01)
        assert 0 == await offset_of(api, upload)
    async with asyncio.timeout(PATIENCE):
        while await chunks_of(api):
            await asyncio.sleep(0.01)

    assert 0 == await offset_of(api, upload)


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
async def test_a_checksum_is_verified(api: Api, small_chunks: None, algorithm: str) -> None:
    """All or nothing of a body counts, also if it has several chunks."""
    content = secrets.token_bytes(3500)
    upload = await create(api, len(content))
    await patch(api, upload, 0, content[:500])

    wrong = await patch(api, upload, 500, content[500:], **{"Upload-Checksum": checksum(content, algorithm)})
    assert (460, "checksum_mismatch") == (wrong.status, wrong.json()["code"])
    assert (500, 1) == (await offset_of(api, upload), await chunks_of(api))
    right = await patch(api, upload, 500, content[500:], **{"Upload-Checksum": checksum(content[500:], algorithm)})

    assert (204, "3500") == (right.status, right.headers["Upload-Offset"])
    assert content == await read(api, upload, len(content))


async def test_the_later_of_two_writers_wins(api: Api) -> None:
    """The earlier request, which hangs, gets 409 at its next chunk, and the content is that of the later one."""
    old, new = secrets.token_bytes(3 * CHUNK_BYTES), secrets.token_bytes(2 * CHUNK_BYTES)
    upload = await create(api, len(old))

    async with sending(api, upload, 0, len(old)) as (reader, writer):
        writer.write(old[:CHUNK_BYTES])
        await reaches(api, upload, CHUNK_BYTES)
        assert 204 == (await patch(api, upload, CHUNK_BYTES, new)).status
        writer.write(old[CHUNK_BYTES:])

        assert 409 == await status_of(reader)
    assert old[:CHUNK_BYTES] + new == await read(api, upload, len(old))


async def test_a_later_writer_discards_an_unfinished_request_with_checksum(api: Api, small_chunks: None) -> None:
    """Its chunks do not get in the way, and it cannot finish."""
    old, new = secrets.token_bytes(2500), secrets.token_bytes(2500)
    upload = await create(api, 2500)

    async with sending(api, upload, 0, 2500, **{"Upload-Checksum": checksum(old)}) as (reader, writer):
        writer.write(old[:2200])
        async with asyncio.timeout(PATIENCE):
            while await chunks_of(api) < 2:
                await asyncio.sleep(0.01)
        assert 204 == (await patch(api, upload, 0, new)).status
        writer.write(old[2200:])

        assert 409 == await status_of(reader)
    assert new == await read(api, upload, 2500)


async def test_many_chunks_of_an_unfinished_request_are_discarded(
    api: Api, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With few deleted in a transaction, because a transaction has little time."""
    deleted: list[int] = []
    truncate = ChunkStore.truncate

    async def count(self: ChunkStore, upload_id: bytes, size: int, session: Any) -> bool:
        before = await chunks_of(api)
        is_clean = await truncate(self, upload_id, size, session)
        left = await api.mongo.collection("chunks").count_documents({}, session=session)
        deleted.append(before - left)
        return is_clean

    monkeypatch.setattr("src.files.chunks.BATCH", 2)
    monkeypatch.setattr(ChunkStore, "truncate", count)
    upload, content = await create(api, 5 * SMALL), secrets.token_bytes(5 * SMALL)

    refused = await patch(api, upload, 0, bytes(5 * SMALL), **{"Upload-Checksum": checksum(content)})
    stored = await patch(api, upload, 0, content)

    assert (460, 204) == (refused.status, stored.status)
    assert [0, 2, 2, 1, 0] == deleted
    assert content == await read(api, upload, 5 * SMALL)


async def test_many_writers_leave_no_gap(api: Api, small_chunks: None) -> None:
    """Clients that fight for an upload, each at the offset it was told, complete it together."""
    content = secrets.token_bytes(8500)
    upload = await create(api, len(content))

    async def write() -> None:
        while (offset := await offset_of(api, upload)) < len(content):
            end = offset + secrets.randbelow(2500) + 1
            with_checksum = {"Upload-Checksum": checksum(content[offset:end])} if end % 2 else {}
            answer = await patch(api, upload, offset, content[offset:end], **with_checksum)
            assert answer.status in {204, 409}

    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(write() for _ in range(4)))

    assert content == await read(api, upload, len(content))


async def test_an_upload_continues_on_another_worker(serve: Serve, own_database: str) -> None:
    """Nothing of it is in a process."""
    one = await serve(mongo_database=own_database)
    upload = await create(one, 11)
    await patch(one, upload, 0, b"hello ")
    other = await serve(mongo_database=own_database, keys=one.settings.keys)

    assert 6 == await offset_of(other, upload)
    assert 204 == (await patch(other, upload, 6, b"world")).status
    assert b"hello world" == await read(one, upload, 11)


async def test_too_many_uploads_at_once_are_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 503 and Retry-After; a place is free as soon as an upload ends."""
    monkeypatch.setattr(uploading, "UPLOADS_AT_ONCE", 1)
    first, second = await create(api, 2 * CHUNK_BYTES), await create(api, 1)

    async with sending(api, first, 0, 2 * CHUNK_BYTES) as (_, writer):
        writer.write(bytes(CHUNK_BYTES))
        await reaches(api, first, CHUNK_BYTES)
        refused = await patch(api, second, 0, b"x")

        assert (503, "1") == (refused.status, refused.headers["Retry-After"])
        assert "Too many uploads" in refused.json()["detail"]
    async with asyncio.timeout(PATIENCE):
        while (await patch(api, second, 0, b"x")).status == 503:
            await asyncio.sleep(0.01)


async def test_a_request_that_stalls_ends(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 408, and what has arrived is stored."""
    monkeypatch.setattr(streamed_bodies, "STALL_SECONDS", 0.3)
    upload = await create(api, 1000)

    async with sending(api, upload, 0, 1000) as (reader, writer):
        writer.write(b"hello")

        assert 408 == await status_of(reader)
    assert 5 == await offset_of(api, upload)


async def test_a_request_that_trickles_ends(api: Api, small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then is not enough, but a slow client that sends more is served."""
    now = 0.0
    loop = SimpleNamespace(time=lambda: now)
    clocks = SimpleNamespace(get_running_loop=lambda: loop, timeout=asyncio.timeout)
    monkeypatch.setattr(streamed_bodies, "asyncio", clocks)
    monkeypatch.setattr(streamed_bodies, "STALL_SECONDS", PATIENCE)
    monkeypatch.setattr(streamed_bodies, "STALL_BYTES", SMALL)
    upload = await create(api, 10**6)

    async with sending(api, upload, 0, 10**6) as (reader, writer):
        for number in range(1, 6):
            now += 0.9 * PATIENCE
            writer.write(bytes(SMALL))
            await reaches(api, upload, number * SMALL)
        answer = asyncio.create_task(status_of(reader))
        while not answer.done():
            now += 0.1 * PATIENCE
            writer.write(b"x")
            await asyncio.sleep(0.01)

        assert 408 == await answer
    assert await offset_of(api, upload) > 5 * SMALL


async def test_an_upload_may_take_longer_than_the_request_timeout(serve: Serve, api: Api) -> None:
    """Only steps have time limits."""
    upload = await create(api, 4)
    hurried = await serve(request_timeout=1, mongo_database=api.settings.mongo_database, keys=api.settings.keys)

    async with sending(hurried, upload, 0, 4) as (reader, writer):
        for _ in range(4):
            writer.write(b"x")
            await asyncio.sleep(0.4)

        assert 204 == await status_of(reader)


async def test_a_full_storage_interrupts_an_upload(serve: Serve) -> None:
    """With 507 in the middle; what was stored stays, and the upload continues when there is space again."""
    api = await serve(storage_max=128 * 1024 * 1024)
    content = secrets.token_bytes(3 * CHUNK_BYTES)
    upload = await create(api, len(content))
    filler = api.mongo.collection("items")

    async with sending(api, upload, 0, len(content)) as (reader, writer):
        writer.write(content[:CHUNK_BYTES])
        await reaches(api, upload, CHUNK_BYTES)
        await filler.insert_many([{"_id": bytes([n]), "filler": bytes(10 * CHUNK_BYTES)} for n in range(10)])
        async with asyncio.timeout(PATIENCE):
            while "creating" not in (await api.send("GET", "/readyz")).json():
                await asyncio.sleep(0.05)
        writer.write(content[CHUNK_BYTES:])

        assert 507 == await status_of(reader)
    assert 507 == (await patch(api, upload, CHUNK_BYTES, content[CHUNK_BYTES:])).status
    assert 507 == (await api.send("POST", "/files", None, **{"Upload-Length": "5"})).status
    assert CHUNK_BYTES == await offset_of(api, upload)

    await filler.delete_many({})
    async with asyncio.timeout(PATIENCE):
        while "creating" in (await api.send("GET", "/readyz")).json():
            await asyncio.sleep(storage_budget.WAIT_SECONDS)
    assert 204 == (await patch(api, upload, CHUNK_BYTES, content[CHUNK_BYTES:])).status
    assert content == await read(api, upload, len(content))


async def test_a_spent_budget_interrupts_an_upload(serve: Serve) -> None:
    """With 429 in the middle; what was stored stays, and the upload continues in the next window."""
    api = await serve(rate_limits="on", limit_create_bytes=f"{CHUNK_BYTES + 5000} bytes per 4 seconds")
    content = secrets.token_bytes(2 * CHUNK_BYTES)
    upload = await create(api, len(content))

    refused = await patch(api, upload, 0, content)
    assert (429, "limit_reached") == (refused.status, refused.json()["code"])
    assert int(refused.headers["Retry-After"]) <= 4
    assert CHUNK_BYTES == await offset_of(api, upload)

    async with asyncio.timeout(PATIENCE):
        while (answer := await patch(api, upload, CHUNK_BYTES, content[CHUNK_BYTES:])).status == 429:
            await asyncio.sleep(0.1)
    assert 204 == answer.status
    assert content == await read(api, upload, len(content))


async def test_small_requests_count_as_documents(serve: Serve) -> None:
    """Each upload and each chunk costs at least 2 KiB of the byte budget."""
    api = await serve(rate_limits="on", limit_create_bytes="6144 bytes per 1 hour")
    upload = await create(api, 10)

    assert [204, 204, 429] == [(await patch(api, upload, offset, b"x")).status for offset in range(3)]
    assert 429 == (await api.send("POST", "/files", None, **{"Upload-Length": "5"})).status


async def test_the_account_that_created_an_upload_pays_for_its_content(serve: Serve) -> None:
    """Requests that continue it have no token, and leave the budget of the address as it is."""
    api = await serve(rate_limits="on", limit_create_bytes="6144 bytes per 1 hour")
    token = await api.sign_up()
    upload = await create(api, 10, Authorization=f"Bearer {token}")

    assert [204, 204, 429] == [(await patch(api, upload, offset, b"x")).status for offset in range(3)]
    assert 429 == (await api.call("POST", "/generate", {"secret": "s"}, token=token))[0]
    anonymous = await create(api, 10)
    assert 204 == (await patch(api, anonymous, 0, b"x")).status


async def test_creation_needs_the_same_credentials_as_a_secret(serve: Serve) -> None:
    """With restricted creation, a token with the scope `secrets`; the key of the upload is enough for the rest."""
    api = await serve(anonymous_create=False)
    token = await api.sign_up()
    headers = {"Upload-Length": "5"}

    assert 401 == (await api.send("POST", "/files", None, **headers)).status
    upload = await create(api, 5, Authorization=f"Bearer {token}")
    assert 204 == (await patch(api, upload, 0, b"hello")).status


async def test_files_can_be_switched_off(serve: Serve) -> None:
    """The paths do not exist then."""
    api = await serve(file_max=0)

    for method, path in (("POST", "/files"), ("OPTIONS", "/files"), ("HEAD", f"/files/{UNKNOWN}")):
        answer = await api.send(method, path)

        assert 404 == answer.status
        assert "Tus-Resumable" not in answer.headers


async def test_uploads_are_counted(serve: Serve) -> None:
    """Created, completed and deleted uploads, and bytes stored."""
    api = await serve()
    upload = await create(api, 11)
    await patch(api, upload, 0, b"hello ")
    await patch(api, upload, 6, b"world", **{"Upload-Checksum": checksum(b"world")})
    await patch(api, upload, 11, b"")
    await create(api, 0)
    await api.send("DELETE", f"/files/{upload}")

    told = (await api.send("GET", "/metrics")).body.decode()

    for event, number in (("created", 2), ("completed", 2), ("deleted", 1)):
        assert f'sealpost_uploads_total{{event="{event}"}} {number}.0' in told
    assert "sealpost_upload_bytes_total 11.0" in told


async def test_only_committed_uses_are_counted(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret whose transaction fails uses no upload."""
    api = await serve()
    upload = await create(api, 0)

    async def fail(*_: object) -> None:
        raise ConnectionFailure

    with monkeypatch.context() as broken:
        broken.setattr("src.core.database.mongo._commit", fail)
        assert 503 == (await api.call("POST", "/generate", {"files": [{"upload": upload}]}))[0]
    await api.mongo.collection("uploads").update_one({}, {"$unset": {"reserved_by": 1, "reserved_until": 1}})
    await api.create(files=[{"upload": upload}])

    told = (await api.send("GET", "/metrics")).body.decode()

    assert 'sealpost_uploads_total{event="taken"} 1.0' in told


async def test_an_unknown_outcome_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 503; the client asks for the offset and continues."""
    upload = await create(api, 5)
    advance = UploadStore.advance

    async def lost(*arguments: Any) -> None:
        await advance(*arguments)
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(UploadStore, "advance", lost)
        assert 503 == (await patch(api, upload, 0, b"hello")).status

    assert 5 == await offset_of(api, upload)


async def test_any_slices_make_the_same_file(api: Api, small_chunks: None) -> None:
    """However a client cuts a file into requests and pieces, with or without checksums."""
    content = secrets.token_bytes(3210)

    async def send(cuts: list[int], verified: bool) -> None:
        bounds = sorted({0, *cuts, len(content)})
        upload = await create(api, len(content))
        for start, stop in pairwise(bounds):
            part = content[start:stop]
            headers = {"Upload-Checksum": checksum(part)} if verified else {}

            assert 204 == (await patch(api, upload, start, part, **headers)).status
        assert content == await read(api, upload, len(content))

    cases: list[tuple[list[int], bool]] = []

    # Not in a thread beside the event loop: Hypothesis fails if other code draws random numbers meanwhile.
    @settings(max_examples=15)
    @given(st.lists(st.integers(0, len(content)), max_size=8), st.booleans())
    def choose(cuts: list[int], verified: bool) -> None:
        cases.append((cuts, verified))

    choose()
    for cuts, verified in cases:
        await send(cuts, verified)

    assert len(cases) > 1


@given(st.text(), st.text())
def test_numbers_are_parsed_strictly(name: str, text: str) -> None:
    """Only decimal digits, or a Malformed that does not repeat the value."""
    if text.isascii() and text.isdigit() and len(text) <= 15:
        assert int(text) == parse_number({name: text}, name)
    else:
        with pytest.raises(Malformed) as refused:
            parse_number({name: text}, name)

        assert name == refused.value.errors[0].field


@given(st.integers(0, 10**15 - 1))
def test_every_number_of_bytes_is_accepted(number: int) -> None:
    """Up to 15 digits."""
    assert number == parse_number({LENGTH: str(number)}, LENGTH)


@given(st.dictionaries(st.from_regex(r"[!-+\--~]{1,20}", fullmatch=True), st.binary(max_size=50)))
def test_valid_metadata_is_accepted(pairs: dict[str, bytes]) -> None:
    """Keys without spaces and commas, values in base64 or none, in one header, which may be empty."""
    text = ",".join(f"{key} {base64.b64encode(value).decode()}" if value else key for key, value in pairs.items())

    check_metadata({"Upload-Metadata": text})


@given(st.text())
def test_other_metadata_is_malformed(text: str) -> None:
    """Any text is either accepted or refused."""
    with suppress(Malformed):
        check_metadata({"Upload-Metadata": text})


@pytest.mark.parametrize("text", [" ", "a,,b", "a b c", "a,a", "ä Yg==", "a Yg", "a,b,"])
def test_metadata_has_keys_and_values(text: str) -> None:
    """Empty, repeated and non-ASCII keys are refused, and so are values that are not base64."""
    with pytest.raises(Malformed):
        check_metadata({"Upload-Metadata": text})


@given(st.text())
@example("sha1")
def test_other_checksums_are_unsupported(text: str) -> None:
    """Any text is either a known algorithm with base64, or refused."""
    try:
        found = parse_checksum({"Upload-Checksum": text})
    except UnsupportedChecksum:
        return
    assert found is not None
    assert text.startswith(("sha1 ", "sha256 "))
    with pytest.raises(ChecksumMismatch):
        found.verify()


@given(st.lists(st.binary(max_size=100)), st.sampled_from(["sha1", "sha256"]))
def test_a_checksum_is_of_all_parts(parts: list[bytes], algorithm: str) -> None:
    """However the body arrives."""
    found = parse_checksum({"Upload-Checksum": checksum(b"".join(parts), algorithm)})

    assert found is not None
    for part in parts:
        found.update(part)
    found.verify()


def test_without_a_checksum_nothing_is_verified() -> None:
    """The header is optional."""
    assert parse_checksum({}) is None
