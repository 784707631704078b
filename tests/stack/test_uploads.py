"""Uploads through nginx: passed on as they arrive, resumable, and never on disk."""

import asyncio
import io
import secrets

import aiohttp
import pytest

from bench.running_stack import RunningStack

from ..uploads import MEDIA_TYPE
from .conftest import grep_logs, session, until_logged

pytestmark = pytest.mark.stack

MIB = 1024 * 1024


async def create(client: aiohttp.ClientSession, size: int) -> tuple[str, str]:
    """Create an upload and return its path and key."""
    async with client.post("/files", headers={"Upload-Length": str(size)}) as answer:
        assert 201 == answer.status
        key = (await answer.json())["upload"]
        assert answer.headers["Location"].endswith(f"/files/{key}")
        return f"/files/{key}", key


async def offset_of(client: aiohttp.ClientSession, path: str) -> int:
    async with client.head(path) as answer:
        assert (200, "1.0.0") == (answer.status, answer.headers["Tus-Resumable"])
        return int(answer.headers["Upload-Offset"])


def headers_at(offset: int) -> dict[str, str]:
    return {"Content-Type": MEDIA_TYPE, "Upload-Offset": str(offset)}


async def test_an_upload_larger_than_any_buffer(stack: RunningStack, client: aiohttp.ClientSession) -> None:
    """24 MiB arrive in one request, and neither content nor key is in a file or a log."""
    marker = secrets.token_hex(16)
    content = marker.encode() * (24 * MIB // 32)
    path, key = await create(client, len(content))

    async with client.patch(path, data=io.BytesIO(content), headers=headers_at(0)) as answer:
        assert (204, str(len(content))) == (answer.status, answer.headers["Upload-Offset"])
    async with client.delete(path) as answer:
        assert 204 == answer.status

    await until_logged(stack, "access.jsonl", '"route":"/files/{upload_key}"')
    assert [] == await grep_logs(stack, marker, key)


async def test_content_reaches_the_worker_while_it_arrives(stack: RunningStack, client: aiohttp.ClientSession) -> None:
    """After a broken connection, the upload continues where it stopped."""
    content = secrets.token_bytes(3 * MIB)
    path, _ = await create(client, len(content))
    host, port = stack.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    lines = {"Host": f"{host}:{port}", "Content-Length": str(len(content)), **headers_at(0)}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"PATCH {path} HTTP/1.1\r\n{text}\r\n".encode() + content[: 2 * MIB])

    async with asyncio.timeout(30):
        while (offset := await offset_of(client, path)) < 2 * MIB:
            await asyncio.sleep(0.05)
    writer.transport.abort()
    async with client.patch(path, data=io.BytesIO(content[offset:]), headers=headers_at(offset)) as answer:
        assert (204, str(len(content))) == (answer.status, answer.headers["Upload-Offset"])


async def test_a_refusal_in_the_middle_reaches_the_client(stack: RunningStack, client: aiohttp.ClientSession) -> None:
    """Although the rest of the body has not been sent."""
    path, _ = await create(client, MIB)

    for offset, size, status in ((1, MIB, 409), (0, 8 * MIB, 413)):
        # nginx closes a connection after it has refused the body of a request.
        async with (
            session(stack) as fresh,
            fresh.patch(path, data=io.BytesIO(bytes(size)), headers=headers_at(offset)) as answer,
        ):
            assert (status, "1.0.0") == (answer.status, answer.headers["Tus-Resumable"])
    assert 0 == await offset_of(client, path)
