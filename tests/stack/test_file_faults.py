"""Uploads and downloads while any process of the stack is killed: clients resume, and the bytes are identical."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from .files import MIB, append, begin_upload, content_of, install_tus_js, open_uploads, uploading_with_node
from .mongod import Mongod
from .test_held import kill_nginx, kill_workers
from .test_restart import all_running

pytestmark = pytest.mark.stack

SIZE = 64 * MIB + 54_321
RATE = 16 * MIB
"""Bytes per second of a download, so that it is still under way when a process dies."""
Kill = Callable[[RunningStack, Mongod], Awaitable[None]]


async def kill_mongodb(_: RunningStack, mongod: Mongod) -> None:
    await asyncio.to_thread(mongod.kill)
    await asyncio.to_thread(mongod.start)


KILLS = pytest.mark.parametrize("kill", [kill_workers, kill_nginx, kill_mongodb])


@pytest.fixture(scope="module")
async def tus_js(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return await install_tus_js(tmp_path_factory.mktemp("npm"))


@KILLS
async def test_an_upload_survives(
    stack: RunningStack, client: ClientSession, mongod: Mongod, tus_js: Path, tmp_path: Path, kill: Kill
) -> None:
    """Tus-js-client sends a file in one request, which fails in the middle; it resumes by itself."""
    await all_running(stack)
    path, content = tmp_path / "file", secrets.token_bytes(SIZE)
    path.write_bytes(content)
    async with uploading_with_node(tus_js, stack.url, path, None) as upload:
        await upload.until("sent", SIZE // 4)
        outcome, _ = await asyncio.gather(upload.end(), kill(stack, mongod))

    assert "success" == outcome, upload.events
    # While MongoDB restarts, the worker repeats the command, and the client may not notice.
    assert upload.values("failed") or kill is kill_mongodb
    assert 1 == len(set(upload.values("url")))
    await all_running(stack)
    assert content == await content_of(client, "/files/" + upload.values("url")[0].rpartition("/")[2])


@KILLS
async def test_a_download_survives(
    stack: RunningStack, client: ClientSession, mongod: Mongod, tmp_path: Path, kill: Kill
) -> None:
    """Curl gets a truncated response, notices it, and resumes with a range until it has everything."""
    await all_running(stack)
    output, content = tmp_path / "file", secrets.token_bytes(SIZE)
    upload = await begin_upload(client, SIZE)
    assert await append(client, upload, 0, content) == (204, "")
    opened = await open_uploads(client, upload)
    command = ["curl", "--silent", "--show-error", "--fail", "--limit-rate", str(RATE), "--continue-at", "-"]
    command += ["--header", f"Sealpost-Reader: {opened.reader}", "--output", str(output), stack.url + opened.paths[0]]

    async def download() -> list[int]:
        codes = []
        while 0 not in codes:
            process = await asyncio.create_subprocess_exec(*command)
            codes.append(await process.wait())
            await asyncio.sleep(0.3)
        return codes

    async def kill_in_the_middle() -> None:
        while not output.exists() or output.stat().st_size < SIZE // 8:
            await asyncio.sleep(0.01)
        await kill(stack, mongod)

    async with asyncio.timeout(PATIENCE):
        codes, _ = await asyncio.gather(download(), kill_in_the_middle())

    # While MongoDB restarts, the worker repeats the command, and the client may not notice.
    assert len(codes) > 1 or kill is kill_mongodb
    assert content == output.read_bytes()
