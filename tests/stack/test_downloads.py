"""Downloads through nginx and the real workers: many at once, slowly, and without a trace."""

import asyncio
import hashlib
import io
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from aiohttp import ClientPayloadError, ClientSession

from bench.running_stack import RunningStack, running_stack

from ..processes import PATIENCE
from ..test_downloads import drain
from .conftest import KEYS, grep_logs, session
from .mongod import Mongod
from .slow import LEAST_BUFFER
from .test_slow_readers import resident_mebibytes

pytestmark = pytest.mark.stack

AT_ONCE = 20
MEBIBYTES = 24
"""Size of the file: more than all buffers between a worker and a client."""
MOST_MEBIBYTES_EACH = 3
"""Memory of the workers for each download: a few chunks."""


@dataclass(frozen=True)
class Shared:
    """A file of an opened secret."""

    path: str
    key: str
    reader: str
    digest: str

    @property
    def headers(self) -> dict[str, str]:
        """The header of its reader."""
        return {"Sealpost-Reader": self.reader}


@pytest.fixture(scope="module")
def limited(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack with its default limits."""
    directory = tmp_path_factory.mktemp("downloads")
    environment = {"SEALPOST_MONGO_URL": mongod.url, "SEALPOST_KEYS": KEYS, "SEALPOST_MONGO_DATABASE": "downloads"}
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


@pytest.fixture
async def reader(limited: RunningStack) -> AsyncIterator[ClientSession]:
    async with session(limited) as client:
        yield client


@pytest.fixture
async def shared(reader: ClientSession) -> Shared:
    """A large file, whose secret has been opened."""
    content = secrets.token_bytes(1024 * 1024) * MEBIBYTES
    async with reader.post("/files", headers={"Upload-Length": str(len(content))}) as answer:
        upload = (await answer.json())["upload"]
    headers = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    async with reader.patch(f"/files/{upload}", data=io.BytesIO(content), headers=headers) as answer:
        assert 204 == answer.status
    async with reader.post("/generate", json={"files": [{"upload": upload, "name": "large.bin"}]}) as answer:
        key = (await answer.json())["secret_key"]
    async with reader.post(f"/secrets/{key}") as answer:
        opened = await answer.json()
    path = f"/secrets/{key}/files/{opened['files'][0]['id']}"
    return Shared(path, key, opened["reader"], hashlib.sha256(content).hexdigest())


async def digest_of(client: ClientSession, file: Shared) -> str:
    """Download the file and return its digest."""
    digest = hashlib.sha256()
    async with client.get(file.path, headers=file.headers) as answer:
        assert 200 == answer.status
        async for part in answer.content.iter_any():
            digest.update(part)
    return digest.hexdigest()


async def test_one_reader_may_download_at_the_same_time(reader: ClientSession, shared: Shared) -> None:
    """20 downloads at once, as of a secret with 20 files, reach none of nginx's limits."""
    digests = await asyncio.gather(*(digest_of(reader, shared) for _ in range(AT_ONCE)))

    assert {shared.digest} == set(digests)


async def test_slow_readers_hold_no_memory_and_no_file(
    limited: RunningStack, reader: ClientSession, shared: Shared
) -> None:
    """Workers wait for the clients, nginx writes nothing to disk, and the file is complete in the end."""
    await asyncio.gather(*(digest_of(reader, shared) for _ in range(8)))
    before = await asyncio.to_thread(resident_mebibytes, limited)
    loop = asyncio.get_running_loop()
    lines = (f"GET {shared.path} HTTP/1.1", "Host: a", f"Sealpost-Reader: {shared.reader}", "Connection: close", "", "")
    with ExitStack() as connections:
        slow = []
        for _ in range(AT_ONCE):
            client = connections.enter_context(socket.socket())
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_BUFFER)
            await loop.sock_connect(client, ("127.0.0.1", int(limited.url.rpartition(":")[2])))
            await loop.sock_sendall(client, "\r\n".join(lines).encode())

            assert b"H" == await loop.sock_recv(client, 1)
            slow.append(client)
        # Others are served meanwhile, and everything that can be buffered is.
        assert shared.digest == await digest_of(reader, shared)
        assert await asyncio.to_thread(resident_mebibytes, limited) < before + AT_ONCE * MOST_MEBIBYTES_EACH
        assert [] == [path for path in (limited.run_dir / "nginx").rglob("*") if path.is_file()]
        slow[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
        answer = bytearray(b"H")
        async with asyncio.timeout(PATIENCE):
            while part := await loop.sock_recv(slow[0], 1024 * 1024):
                answer += part

    assert shared.digest == hashlib.sha256(answer.partition(b"\r\n\r\n")[2]).hexdigest()


async def test_the_end_aborts_a_download(limited: RunningStack, reader: ClientSession, shared: Shared) -> None:
    """A client behind nginx can tell that the response is incomplete."""
    body = bytearray()
    async with reader.get(shared.path, headers=shared.headers) as answer:
        async with reader.post(f"/secrets/{shared.key}/received", json={"reader": shared.reader}) as received:
            assert 204 == received.status
        with pytest.raises(ClientPayloadError):
            await drain(answer, body)

    assert len(body) < MEBIBYTES * 1024 * 1024


async def test_no_log_contains_a_key_of_a_download(
    limited: RunningStack, reader: ClientSession, shared: Shared
) -> None:
    """Successful, refused or aborted: the logs have the route only."""
    await digest_of(reader, shared)
    async with reader.get(shared.path, headers={"Sealpost-Reader": shared.reader[:-1]}) as answer:
        assert 404 == answer.status
    async with reader.get(shared.path, headers=shared.headers) as answer:
        await answer.content.readany()
        answer.close()
    assert [] == await grep_logs(limited, shared.key, shared.reader, shared.path.rpartition("/")[2])
    assert await grep_logs(limited, "/secrets/{secret_key}/files/{file_id}")
