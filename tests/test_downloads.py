"""Downloads of the files of an opened secret: whole or in parts, only for its reader, and never wrong."""

import asyncio
import secrets
import tracemalloc
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, cast

import pytest
from aiohttp import ClientPayloadError, ClientResponse
from structlog.testing import capture_logs

from src.core.clock import utc_now
from src.core.crypto.sealing import encode
from src.core.metrics import Metrics
from src.core.stored_files import StoredFile
from src.errors import Unavailable
from src.files.chunk_sealing import CHUNK_BYTES
from src.sealed import downloads
from src.sealed.download_routes import POLICY
from src.sealed.downloads import PIECE_BYTES, Downloads
from src.sealed.file_headers import Span
from src.sealed.held_files import HeldFile
from src.sealed.problems import KeyNotFound

from .conftest import Api, RawAnswer, altered
from .processes import PATIENCE
from .uploads import upload

Serve = Callable[..., Awaitable[Api]]

PARTS = (b"first part, ", b"second part, ", b"third part")
CONTENT = b"".join(PARTS)
LARGE = 24
"""MiB, more than the kernel buffers of a connection."""


@dataclass(frozen=True)
class Opened:
    """A secret with files, and one of its readers."""

    key: str
    receipt: str
    reader: str
    files: list[dict[str, Any]]

    @property
    def path(self) -> str:
        """The path of its first file."""
        return self.path_of(0)

    def path_of(self, index: int) -> str:
        """Return the path of a file."""
        return f"/secrets/{self.key}/files/{self.files[index]['id']}"

    @property
    def headers(self) -> dict[str, str]:
        """The header of its reader."""
        return {"Sealpost-Reader": self.reader}


async def share(api: Api, *files: tuple[bytes, ...], facts: dict[str, str] | None = None, **fields: object) -> Any:
    """Create a secret with files, each of which is uploaded in parts; return the answer."""
    uploads = [encode(await upload(api, *parts)) for parts in files]
    return await api.create("", files=[{"upload": one, **(facts or {})} for one in uploads], **fields)


async def open_by(api: Api, created: Any, reader: str | None = None) -> Opened:
    """Open a secret."""
    reader = reader or encode(secrets.token_bytes(32))
    status, answer = await api.open(created["secret_key"], reader=reader)

    assert 200 == status, answer
    return Opened(created["secret_key"], created["receipt_key"], reader, answer["files"])


async def opened(api: Api, *files: tuple[bytes, ...], facts: dict[str, str] | None = None) -> Opened:
    """Create a secret with files, and open it."""
    return await open_by(api, await share(api, *files, facts=facts))


async def get(api: Api, download: Opened, *, method: str = "GET", **headers: str) -> RawAnswer:
    """Download the first file."""
    return await api.send(method, download.path, None, **{**download.headers, **headers})


async def refusal(api: Api, download: Opened, path: str = "", **headers: str) -> tuple[int, str]:
    """Return status and code of a download that is refused."""
    answer = await api.send("GET", path or download.path, None, **{**download.headers, **headers})
    return answer.status, answer.json()["code"]


async def drain(answer: ClientResponse, body: bytearray) -> None:
    """Append the rest of a response."""
    async for part in answer.content.iter_any():
        body += part


async def read_in_vain(api: Api, download: Opened, **headers: str) -> bytes:
    """Return what a client gets of a download before it fails."""
    body = bytearray()
    async with api.client.get(download.path, headers={**download.headers, **headers}) as answer:
        assert answer.status in {200, 206}
        with pytest.raises(ClientPayloadError):
            await drain(answer, body)
    return bytes(body)


async def test_a_file_is_downloaded_as_it_was_uploaded(api: Api) -> None:
    """With its name, and headers that let no browser run it."""
    download = await opened(api, PARTS, facts={"name": "the plan.txt", "type": "text/plain"})

    answer = await get(api, download)

    assert (200, CONTENT) == (answer.status, answer.body)
    expected = {
        "Content-Type": "text/plain",
        "Content-Length": str(len(CONTENT)),
        "Content-Disposition": 'attachment; filename="the plan.txt"',
        "Accept-Ranges": "bytes",
        "ETag": f'"{download.files[0]["id"]}"',
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-store, no-transform",
        "Referrer-Policy": "no-referrer",
    }
    assert expected == {name: answer.headers.get(name) for name in expected}
    assert "Content-Range" not in answer.headers


async def test_each_file_has_its_own_content(api: Api) -> None:
    """Without a name, it is called by its number."""
    download = await opened(api, (b"one",), (b"two",), (b"",))

    for number, content in enumerate((b"one", b"two", b""), 1):
        answer = await api.send("GET", download.path_of(number - 1), None, **download.headers)
        assert (200, content, str(len(content))) == (answer.status, answer.body, answer.headers["Content-Length"])
        assert f'attachment; filename="file-{number}"' == answer.headers["Content-Disposition"]
        assert "application/octet-stream" == answer.headers["Content-Type"]


async def test_a_hostile_name_and_type_are_harmless(api: Api) -> None:
    """They cannot leave the directory, add a header, or make a browser run the file."""
    download = await opened(api, (b"x",), facts={"name": "../../con\r\nX-Evil: 1\u202e.html", "type": "text/html"})

    answer = await get(api, download)

    assert 'attachment; filename="conX-Evil_ 1.html"' == answer.headers["Content-Disposition"]
    assert "application/octet-stream" == answer.headers["Content-Type"]
    assert "X-Evil" not in answer.headers


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 35), (5, 20), (12, 25), (24, 26), (34, 35), (11, 13)])
async def test_a_part_is_downloaded(api: Api, start: int, stop: int) -> None:
    """Whatever chunks it lies in."""
    download = await opened(api, PARTS)

    answer = await get(api, download, Range=f"bytes={start}-{stop - 1}")

    assert (206, CONTENT[start:stop]) == (answer.status, answer.body)
    assert f"bytes {start}-{stop - 1}/{len(CONTENT)}" == answer.headers["Content-Range"]
    assert str(stop - start) == answer.headers["Content-Length"]


async def test_a_download_is_resumed_only_for_the_same_file(api: Api) -> None:
    """With If-Range, another ETag gets the whole file."""
    download = await opened(api, PARTS)
    etag = (await get(api, download)).headers["ETag"]

    same = await get(api, download, **{"Range": "bytes=20-", "If-Range": etag})
    other = await get(api, download, **{"Range": "bytes=20-", "If-Range": '"other"'})

    assert (206, CONTENT[20:]) == (same.status, same.body)
    assert (200, CONTENT) == (other.status, other.body)


async def test_a_complete_download_has_nothing_to_resume(api: Api) -> None:
    """A range after the end is refused with the size; of an empty file, there is none."""
    download, empty = await opened(api, PARTS), await opened(api, (b"",))

    answer = await get(api, download, Range=f"bytes={len(CONTENT)}-")
    whole = await get(api, empty, Range="bytes=0-")

    assert (416, "range_not_satisfiable") == (answer.status, answer.json()["code"])
    assert f"bytes */{len(CONTENT)}" == answer.headers["Content-Range"]
    assert (200, b"") == (whole.status, whole.body)


async def test_head_tells_the_size(api: Api) -> None:
    """It has the headers of the whole file, whatever the range, and needs the same key."""
    download = await opened(api, PARTS)

    whole, head = await get(api, download), await get(api, download, method="HEAD", Range="bytes=1-2")
    other = await get(api, replace(download, reader=encode(bytes(32))), method="HEAD")

    assert (200, b"", 404) == (head.status, head.body, other.status)
    changing = {"Date", "X-Request-ID"}
    assert {n: v for n, v in whole.headers.items() if n not in changing} == {
        n: v for n, v in head.headers.items() if n not in changing
    }


async def test_only_the_reader_gets_the_file(api: Api) -> None:
    """No key, a malformed or another one, another id and another secret's file are all not found."""
    download, other = await opened(api, PARTS), await opened(api, PARTS)
    waiting = await share(api, PARTS)

    for reader in ("", "x", download.reader[:-1], encode(bytes(32)), other.reader):
        assert (404, "key_not_found") == await refusal(api, download, **{"Sealpost-Reader": reader})
    assert 404 == (await api.send("GET", download.path)).status
    for path in (
        f"/secrets/{download.key}/files/{'0' * 32}",
        f"/secrets/{download.key}/files/{other.files[0]['id']}",
        f"/secrets/{other.key}/files/{download.files[0]['id']}",
        f"/secrets/{waiting['secret_key']}/files/{download.files[0]['id']}",
        f"/secrets/{download.key[:-1]}/files/{download.files[0]['id']}",
    ):
        assert (404, "key_not_found") == await refusal(api, download, path)
    assert 200 == (await get(api, download)).status


async def test_a_reader_without_a_key_gets_one(api: Api) -> None:
    """The key in the response downloads the file."""
    created = await share(api, PARTS)
    _, answer = await api.open(created["secret_key"])

    download = Opened(created["secret_key"], created["receipt_key"], answer["reader"], answer["files"])

    assert CONTENT == (await get(api, download)).body


async def test_no_more_readers_than_openings_get_a_byte(api: Api) -> None:
    """Each downloads with the key of its own, and of readers at the same time, one wins."""
    created = await share(api, PARTS, max_opens=2)
    first, second = await open_by(api, created), await open_by(api, created)
    status, _ = await api.open(created["secret_key"], reader=encode(bytes(32)))

    assert 404 == status
    assert CONTENT == (await get(api, first)).body == (await get(api, second)).body
    assert (404, "key_not_found") == await refusal(api, first, **{"Sealpost-Reader": encode(bytes(32))})

    created = await share(api, PARTS)
    readers = [encode(secrets.token_bytes(32)) for _ in range(10)]
    answers = await asyncio.gather(*(api.open(created["secret_key"], reader=reader) for reader in readers))
    [files] = [answer["files"] for status, answer in answers if status == 200]
    downloads = [Opened(created["secret_key"], "", reader, files) for reader in readers]
    found = [answer.body == CONTENT for answer in await asyncio.gather(*(get(api, one) for one in downloads))]
    assert [status == 200 for status, _ in answers] == found


async def test_parts_are_downloaded_at_the_same_time(api: Api) -> None:
    """The reader may use several connections, and the parts fit together."""
    content = secrets.token_bytes(2 * CHUNK_BYTES + 77)
    download = await opened(api, (content,))
    size = len(content) // 10 + 1

    parts = await asyncio.gather(
        *(get(api, download, Range=f"bytes={start}-{start + size - 1}") for start in range(0, len(content), size))
    )

    assert {206} == {part.status for part in parts}
    assert content == b"".join(part.body for part in parts)


async def confirm(api: Api, download: Opened) -> None:
    """Tell the server that the files have arrived."""
    status, _ = await api.call("POST", f"/secrets/{download.key}/received", {"reader": download.reader})

    assert 204 == status


async def burn(api: Api, download: Opened) -> None:
    """Burn the secret."""
    status, _ = await api.call("DELETE", f"/receipts/{download.receipt}")

    assert 204 == status


async def end_hold(api: Api, _: Opened) -> None:
    """Let the hold end, as by MongoDB's clock."""
    await api.items.update_many({"files": {"$exists": True}}, {"$set": {"holds.$[].until": utc_now() - timedelta(1)}})


ENDS = pytest.mark.parametrize("end", [confirm, burn, end_hold])
End = Callable[[Api, Opened], Awaitable[None]]


@ENDS
async def test_nothing_is_downloaded_after_the_end(api: Api, end: End) -> None:
    """Once the reader has confirmed, the sender has burned or the hold is over, the key is not found."""
    download = await opened(api, PARTS)
    await end(api, download)

    assert (404, "key_not_found") == await refusal(api, download)
    assert (404, "key_not_found") == await refusal(api, download, Range="bytes=1-2")


@ENDS
async def test_the_end_aborts_a_download(serve: Serve, end: End) -> None:
    """The client can tell that it is incomplete, and the log names no fault. Another opening makes no difference."""
    api = await serve()
    created = await share(api, tuple(bytes(CHUNK_BYTES) for _ in range(LARGE)), max_opens=3)
    download = await open_by(api, created)
    body = bytearray()
    with capture_logs() as entries:
        async with api.client.get(download.path, headers=download.headers) as answer:
            # The client reads nothing, so the server is still at the beginning.
            await end(api, download)
            with pytest.raises(ClientPayloadError):
                await drain(answer, body)
        async with asyncio.timeout(PATIENCE):
            while not any(entry.get("route", "").endswith("{file_id}") for entry in entries):
                await asyncio.sleep(0.01)

    assert len(body) < LARGE * CHUNK_BYTES
    [aborted] = [entry for entry in entries if entry["event"] == "streamed response aborted"]
    assert ("KeyNotFound", "info") == (aborted["reason"], aborted["log_level"])


async def test_one_reader_does_not_end_the_download_of_another(api: Api) -> None:
    """After a confirmation, the files stay for the others."""
    created = await share(api, PARTS, max_opens=2)
    first, second = await open_by(api, created), await open_by(api, created)
    await confirm(api, first)

    assert (404, "key_not_found") == await refusal(api, first)
    assert CONTENT == (await get(api, second)).body


async def test_a_download_prolongs_its_hold(serve: Serve) -> None:
    """Once a quarter of the time is over, it lasts for the whole time again, and no longer than the secret."""
    api = await serve(file_hold=600)
    download = await opened(api, PARTS)

    async def until() -> Any:
        return (await api.items.find_one())["holds"][0]["until"]

    fresh = await until()
    await get(api, download)
    assert fresh == await until()

    soon = utc_now().replace(microsecond=0) + timedelta(seconds=100)
    await api.items.update_one({}, {"$set": {"holds.0.until": soon}})
    await get(api, download)
    assert fresh <= await until()
    assert CONTENT == (await get(api, download)).body


async def chunks_of(api: Api) -> list[dict[str, Any]]:
    """Return the stored chunks in order."""
    found: list[dict[str, Any]] = await api.mongo.collection("chunks").find().sort("_id").to_list(None)
    return found


async def change(api: Api, index: int, **fields: Any) -> None:
    """Replace fields of a chunk."""
    chunk = (await chunks_of(api))[index]
    await api.mongo.collection("chunks").update_one({"_id": chunk["_id"]}, {"$set": fields})


async def tamper(api: Api, index: int) -> None:
    """Flip the last bit of a chunk."""
    data = (await chunks_of(api))[index]["data"]
    await change(api, index, data=altered(data))


async def drop(api: Api, index: int) -> None:
    """Delete a chunk."""
    await api.mongo.collection("chunks").delete_one({"_id": (await chunks_of(api))[index]["_id"]})


async def truncate(api: Api, index: int) -> None:
    """Remove the end of a chunk."""
    await change(api, index, data=(await chunks_of(api))[index]["data"][:-5])


async def double(api: Api, index: int) -> None:
    """Put the chunk before it in its place, which has the same size."""
    await change(api, index, data=(await chunks_of(api))[index - 1]["data"])


async def swap(api: Api, index: int) -> None:
    """Exchange two chunks of the same size."""
    chunks = await chunks_of(api)
    await change(api, index, data=chunks[index - 1]["data"])
    await change(api, index - 1, data=chunks[index]["data"])


ATTACKS = pytest.mark.parametrize("attack", [tamper, drop, truncate, double, swap])
Attack = Callable[[Api, int], Awaitable[None]]
EQUAL = (b"a" * 1000, b"b" * 1000, b"c" * 1000, b"d" * 1000)


@ATTACKS
async def test_a_changed_chunk_never_ends_a_download_well(api: Api, attack: Attack) -> None:
    """The client gets at most what comes before it, and can tell that the rest is missing."""
    download = await opened(api, EQUAL)
    await attack(api, 2)

    body = await read_in_vain(api, download)

    assert b"".join(EQUAL).startswith(body)
    assert len(body) <= 2000


@ATTACKS
async def test_a_changed_first_chunk_is_an_error(api: Api, attack: Attack) -> None:
    """Before the first byte, the response is a problem."""
    download = await opened(api, EQUAL)
    await attack(api, 1)

    assert (410, "damaged") == await refusal(api, download, Range="bytes=1500-1600")


async def test_an_appended_chunk_is_not_sent(api: Api) -> None:
    """The length of a file is part of the sealed item."""
    download = await opened(api, EQUAL)
    chunks = await chunks_of(api)
    start = (4000).to_bytes(8, "big")
    await api.mongo.collection("chunks").insert_one({**chunks[3], "_id": chunks[3]["_id"][:16] + start})

    assert b"".join(EQUAL) == (await get(api, download)).body


async def test_a_missing_end_is_noticed(api: Api) -> None:
    """Without its last chunk, no download of the file completes."""
    download = await opened(api, EQUAL)
    await drop(api, 3)

    assert len(await read_in_vain(api, download)) <= 3000


async def test_a_large_file_needs_little_memory(serve: Serve) -> None:
    """A few chunks, whatever the size of the file."""
    api = await serve()
    download = await opened(api, tuple(secrets.token_bytes(CHUNK_BYTES) for _ in range(LARGE)))
    size = 0
    tracemalloc.start()
    try:
        async with api.client.get(download.path, headers=download.headers) as answer:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            async for part in answer.content.iter_any():
                size += len(part)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert LARGE * CHUNK_BYTES == size
    assert peak - before < 8 * CHUNK_BYTES


async def test_a_process_sends_a_limited_number_of_files_at_once(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any further download gets 503 with Retry-After, until one has ended."""
    monkeypatch.setattr(downloads, "DOWNLOADS_AT_ONCE", 1)
    download = await opened(api, tuple(bytes(CHUNK_BYTES) for _ in range(LARGE)))
    async with api.client.get(download.path, headers=download.headers) as first:
        await first.content.readany()
        second = await get(api, download, Range="bytes=0-9")
        first.close()
    async with asyncio.timeout(PATIENCE):
        while (third := await get(api, download, Range="bytes=0-9")).status == 503:
            await asyncio.sleep(0.01)

    assert (503, "unavailable", "1") == (second.status, second.json()["code"], second.headers["Retry-After"])
    assert (206, bytes(10)) == (third.status, third.body)


class Storage:
    """Yields chunks, and then fails; records that it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.is_closed = False

    async def read(self, *_: object) -> AsyncGenerator[bytes, None]:
        """Yield the chunks."""
        try:
            for chunk in self.chunks:
                yield chunk
            raise Unavailable
        finally:
            self.is_closed = True


class Holds:
    """An opening that is held for a number of checks."""

    def __init__(self, checks: int) -> None:
        self.checks = checks

    async def keep(self, _: object) -> bool:
        """Tell whether the opening is held."""
        self.checks -= 1
        return self.checks >= 0


async def sent_before(error: type[Exception], storage: Storage, holds: Holds) -> bytes:
    """Return what a download yields before it raises an error."""
    service = Downloads(held_files=cast("Any", holds), storage=cast("Any", storage), metrics=Metrics.off())
    held = HeldFile(StoredFile(bytes(16), 10**6), bytes(32), None, None, 0, bytes(16), bytes(16))
    body = bytearray()

    async def read() -> None:
        nonlocal body
        async for piece in service.content(held, Span(0, 10**6)):
            body += piece

    with pytest.raises(error):
        await read()
    assert storage.is_closed
    return bytes(body)


async def test_the_end_is_noticed_while_a_chunk_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only before the next one: a slow client needs long for a chunk."""
    monkeypatch.setattr(downloads, "CHECK_SECONDS", -1)
    chunk = secrets.token_bytes(10 * PIECE_BYTES)

    assert chunk[: 3 * PIECE_BYTES] == await sent_before(KeyNotFound, Storage(chunk), Holds(3))


async def test_a_lost_database_ends_a_download() -> None:
    """What was read before has been sent."""
    assert b"one, two" == await sent_before(Unavailable, Storage(b"one, ", b"two"), Holds(100))


async def test_downloads_are_counted(serve: Serve) -> None:
    """Those that were started, those that were completed, and the bytes; HEAD is none."""
    api = await serve()
    download = await opened(api, EQUAL)
    await get(api, download)
    await get(api, download, Range="bytes=0-9")
    await get(api, download, method="HEAD")
    await tamper(api, 1)
    await read_in_vain(api, download)

    metrics = (await api.send("GET", "/metrics")).body.decode()

    assert 'sealpost_downloads_total{event="started"} 3.0' in metrics
    assert 'sealpost_downloads_total{event="completed"} 2.0' in metrics
    assert "sealpost_download_bytes_total 5010.0" in metrics


async def test_the_log_contains_no_key(api: Api) -> None:
    """Only the route, also for a download that is aborted."""
    download = await opened(api, EQUAL)
    await tamper(api, 2)
    with capture_logs() as entries:
        await read_in_vain(api, download)
        await refusal(api, download, **{"Sealpost-Reader": encode(bytes(32))})

    assert not any(text in str(entries) for text in (download.key, download.reader))
    assert "/secrets/{secret_key}/files/{file_id}" in str(entries)
