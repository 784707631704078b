"""Uploads of tus clients that others wrote, through nginx and four workers; and of clients that break the rules."""

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession
from tusclient.client import TusClient
from tusclient.exceptions import TusUploadFailed
from tusclient.storage.filestorage import FileStorage
from tusclient.uploader.uploader import Uploader

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from .files import (
    APPENDING,
    MIB,
    append,
    begin_upload,
    content_of,
    install_tus_js,
    offset_of,
    uploading_with_node,
)
from .mongod import Mongod
from .test_held import kill_workers
from .test_restart import all_running

pytestmark = pytest.mark.stack

SIZE = 5 * MIB + 321
CHUNK = MIB + 1000
"""Bytes for each request: neither a divisor of the size nor of what the server stores in one document."""


@pytest.fixture(scope="module")
async def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await install_tus_js(tmp_path_factory.mktemp("npm"))


@pytest.fixture
def content() -> bytes:
    return secrets.token_bytes(SIZE)


@pytest.fixture
def file(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content)
    return path


class OpenFile(BytesIO):
    """A file in memory: tuspy closes a file that it needs later, and does not close those that it opens itself."""

    def close(self) -> None:
        pass


Uploaders = Callable[..., Uploader]


@pytest.fixture
def uploader(stack: RunningStack, content: bytes, tmp_path: Path) -> Iterator[Uploaders]:
    """Return uploaders of tuspy for the content; each resumes what an earlier one has begun."""
    with ExitStack() as closing:

        def new(kind: type[Uploader] = Uploader, **options: Any) -> Uploader:
            storage = FileStorage(str(tmp_path / "uploads"))  # type: ignore[no-untyped-call]
            closing.callback(storage.close)
            options |= {"store_url": True, "url_storage": storage, "chunk_size": CHUNK}
            return kind(file_stream=OpenFile(content), client=TusClient(f"{stack.url}/files"), **options)

        yield new


def path_of(url: str | None) -> str:
    return "/files/" + (url or "").rpartition("/")[2]


def hash_other_bytes(chunk: bytes) -> Any:
    return hashlib.sha1(chunk + b"damaged")  # noqa: S324 (the algorithm that each tus server must offer)


class Sha256(Uploader):
    CHECKSUM_ALGORITHM_PAIR = ("sha256", hashlib.sha256)


class Damaged(Uploader):
    CHECKSUM_ALGORITHM_PAIR = ("sha1", hash_other_bytes)  # type: ignore[assignment]


async def until_offset(client: ClientSession, path: str, offset: int) -> None:
    """Wait until the server has stored this many bytes."""
    async with asyncio.timeout(PATIENCE):
        while await offset_of(client, path) != offset:
            await asyncio.sleep(0.05)


async def status_of(request: Awaitable[tuple[int, str]]) -> int:
    """Return the status of an answer; 0 if the server closed the connection while the client was sending."""
    try:
        status, _ = await request
    except ClientError:
        return 0
    return status


async def test_tuspy_resumes_on_workers_that_have_never_seen_the_upload(
    stack: RunningStack, client: ClientSession, mongod: Mongod, uploader: Uploaders, content: bytes
) -> None:
    """Interrupted after 2 requests; all workers are killed; another run finds the upload and completes it."""
    await all_running(stack)
    first = uploader()
    await asyncio.to_thread(first.upload, 2 * CHUNK)
    await kill_workers(stack, mongod)
    await all_running(stack)
    second = await asyncio.to_thread(uploader)

    assert (first.url, 2 * CHUNK) == (second.url, second.offset)
    await asyncio.to_thread(second.upload)
    assert content == await content_of(client, path_of(second.url))


@pytest.mark.parametrize("kind", [Uploader, Sha256], ids=["sha1", "sha256"])
async def test_tuspy_sends_checksums(
    client: ClientSession, uploader: Uploaders, content: bytes, kind: type[Uploader]
) -> None:
    """A request whose checksum is wrong is refused with 460 and stores nothing; the client sends it again."""
    upload = uploader(kind, upload_checksum=True)
    await asyncio.to_thread(upload.upload_chunk)
    damaged = await asyncio.to_thread(uploader, Damaged, upload_checksum=True)
    with pytest.raises(TusUploadFailed) as refused:
        await asyncio.to_thread(damaged.upload_chunk)

    assert (upload.url, CHUNK) == (damaged.url, damaged.offset)
    assert (460, CHUNK) == (refused.value.status_code, await offset_of(client, path_of(upload.url)))
    await asyncio.to_thread(upload.upload)
    assert content == await content_of(client, path_of(upload.url))


async def test_tuspy_asks_for_the_offset_after_a_wrong_one(
    client: ClientSession, uploader: Uploaders, content: bytes
) -> None:
    """Bytes for any other offset than the next one are refused with 409."""
    upload = uploader()
    await asyncio.to_thread(upload.upload_chunk)
    for offset in (0, CHUNK - 1, CHUNK + 1):
        upload.offset = offset
        with pytest.raises(TusUploadFailed) as refused:
            await asyncio.to_thread(upload.upload_chunk)

        assert HTTPStatus.CONFLICT == refused.value.status_code
    upload.offset = await asyncio.to_thread(upload.get_offset)
    await asyncio.to_thread(upload.upload)
    assert content == await content_of(client, path_of(upload.url))


async def test_an_empty_file_is_complete_at_once(stack: RunningStack, client: ClientSession) -> None:
    """Tuspy sends no bytes for it."""
    upload = TusClient(f"{stack.url}/files").uploader(file_stream=BytesIO(b""))
    await asyncio.to_thread(upload.upload)

    assert b"" == await content_of(client, path_of(upload.url))


@pytest.mark.parametrize("chunk_size", [None, CHUNK], ids=["in one request", "in several"])
async def test_tus_js_client_uploads(
    stack: RunningStack, client: ClientSession, tus_js: Path, file: Path, content: bytes, chunk_size: int | None
) -> None:
    """The client of Node.js needs no settings for this server, and asks for nothing that it does not offer."""
    async with uploading_with_node(tus_js, stack.url, file, chunk_size) as upload:
        assert "success" == await upload.end(), upload.events
    assert [] == upload.values("failed")
    assert content == await content_of(client, path_of(upload.values("url")[0]))


async def test_a_killed_tus_js_client_resumes(
    stack: RunningStack, client: ClientSession, tus_js: Path, file: Path, content: bytes
) -> None:
    """Another process goes on with the same upload, from what the server has."""
    async with uploading_with_node(tus_js, stack.url, file, CHUNK) as killed:
        await killed.until("accepted", 2 * CHUNK)
        killed.process.kill()
    async with uploading_with_node(tus_js, stack.url, file, CHUNK) as upload:
        assert "success" == await upload.end(), upload.events
    assert killed.values("url")[0] == upload.values("url")[0]
    assert 2 * CHUNK <= min(upload.values("sent"))
    assert content == await content_of(client, path_of(upload.values("url")[0]))


async def test_bytes_that_arrived_before_a_connection_broke_are_kept(client: ClientSession, content: bytes) -> None:
    """Also those that do not fill a document: resuming loses nothing."""
    arrived = 2 * MIB + 777
    path = await begin_upload(client, SIZE)
    sent, over = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield content[:arrived]
        sent.set()
        await over.wait()

    # The length that it announces is a lie: the rest never comes.
    length = {"Content-Length": str(SIZE)}
    request = asyncio.create_task(append(client, path, 0, body(), **length))
    await sent.wait()
    await until_offset(client, path, 2 * MIB)
    request.cancel()
    await until_offset(client, path, arrived)

    assert (204, "") == await append(client, path, arrived, content[arrived:])
    assert content == await content_of(client, path)


async def test_of_two_writers_the_later_one_wins(client: ClientSession, content: bytes) -> None:
    """The earlier request, which hung elsewhere, stores no further byte."""
    path = await begin_upload(client, SIZE)
    goes_on = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"\0" * (2 * MIB + 1)
        await goes_on.wait()
        yield b"\0" * (SIZE - 2 * MIB - 1)

    earlier = asyncio.create_task(append(client, path, 0, body()))
    await until_offset(client, path, 2 * MIB)
    later = await append(client, path, 2 * MIB, content[2 * MIB :])
    goes_on.set()
    # It may learn this before it has sent everything.
    status = await status_of(earlier)

    assert (204, "") == later
    assert {0, HTTPStatus.CONFLICT} >= {status}
    assert b"\0" * 2 * MIB + content[2 * MIB :] == await content_of(client, path)


async def test_of_twenty_writers_at_once_the_bytes_of_one_are_stored(client: ClientSession) -> None:
    """All begin at the same offset, each with its own bytes: the file is never a mixture."""
    size = 2 * MIB
    for _ in range(3):
        path = await begin_upload(client, size)
        writers = [status_of(append(client, path, 0, bytes([number]) * size)) for number in range(20)]
        statuses = await asyncio.gather(*writers)
        offset = await offset_of(client, path)

        assert {0, HTTPStatus.NO_CONTENT, HTTPStatus.CONFLICT} >= set(statuses)
        assert offset is not None
        # If each writer was overtaken by another one before its end, there is room left.
        await append(client, path, offset, b"\xff" * (size - offset))
        assert 1 >= len(set((await content_of(client, path))[:offset]))


async def test_more_bytes_than_announced_are_refused(client: ClientSession, content: bytes) -> None:
    """The answer is 413, and the upload can still be completed with the right bytes."""
    path = await begin_upload(client, SIZE)
    status, _ = await append(client, path, 0, content + b"more")
    offset = await offset_of(client, path)

    assert (413, 0) == (status, offset)
    assert (204, "") == await append(client, path, 0, content)
    assert (413, SIZE) == ((await append(client, path, SIZE, b"more"))[0], await offset_of(client, path))
    assert content == await content_of(client, path)


async def test_an_upload_that_never_ends_is_cut_off(client: ClientSession, content: bytes) -> None:
    """A body without a length is stored up to the length of the upload, and the rest is not read."""
    path = await begin_upload(client, SIZE)
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            piece = content[sent % SIZE : sent % SIZE + 65_536]
            yield piece
            sent += len(piece)

    async with asyncio.timeout(PATIENCE):
        status = await status_of(append(client, path, 0, body()))

    assert {0, HTTPStatus.REQUEST_ENTITY_TOO_LARGE} >= {status}
    assert SIZE * 4 > sent
    offset = await offset_of(client, path)
    assert offset is not None
    assert SIZE >= offset
    if offset < SIZE:
        await append(client, path, offset, content[offset:])
    assert content == await content_of(client, path)


async def test_a_slow_upload_has_more_time_than_other_requests(client: ClientSession) -> None:
    """It sends a byte a second for longer than a request may take, and every byte is stored."""
    seconds = 12
    path = await begin_upload(client, seconds)

    async def body() -> AsyncIterator[bytes]:
        for number in range(seconds):
            yield bytes([number])
            await asyncio.sleep(1)

    assert (204, "") == await append(client, path, 0, body())
    assert bytes(range(seconds)) == await content_of(client, path)


async def test_another_version_of_the_protocol_is_refused(client: ClientSession) -> None:
    """The answer is 412 with the version that the server speaks."""
    headers = {**APPENDING, "Tus-Resumable": "0.2.2", "Upload-Length": "1"}
    async with client.post("/files", headers=headers) as response:
        assert (412, "1.0.0") == (response.status, response.headers["Tus-Version"])
