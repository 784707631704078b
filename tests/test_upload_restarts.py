"""Uploads survive the end of the process that receives them."""

import asyncio
import io
import secrets
import signal
from pathlib import Path

import aiohttp
import pytest

from src.files.chunk_sealing import CHUNK_BYTES

from .processes import PATIENCE, run_app
from .uploads import MEDIA_TYPE

CONTENT = secrets.token_bytes(3 * CHUNK_BYTES + 5000)


async def offset_of(client: aiohttp.ClientSession, path: str) -> int:
    """Return the offset that the server tells."""
    async with client.head(path) as answer:
        assert 200 == answer.status
        return int(answer.headers["Upload-Offset"])


@pytest.mark.lifecycle
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_an_upload_continues_after_a_restart(
    mongo_directory: Path, tmp_path: Path, unused_tcp_port: int, number: signal.Signals
) -> None:
    """Nothing that the server acknowledged is lost, whether it was stopped or killed, and the file is complete."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    environment = {
        "SEALPOST_DATA_DIR": str(mongo_directory),
        "SEALPOST_MONGO_DATABASE": f"test-{secrets.token_hex(8)}",
        "SEALPOST_LOG_FILE": str(tmp_path / "log"),
    }

    def headers(offset: int) -> dict[str, str]:
        return {"Content-Type": MEDIA_TYPE, "Upload-Offset": str(offset)}

    async with aiohttp.ClientSession(url) as client:
        async with run_app(
            "-P", str(unused_tcp_port), url=url, output=tmp_path / "out", environment=environment
        ) as app:
            await app.ready()
            async with client.post("/files", headers={"Upload-Length": str(len(CONTENT))}) as answer:
                path = f"/files/{(await answer.json())['upload']}"
            _, writer = await asyncio.open_connection("127.0.0.1", unused_tcp_port)
            lines = {"Host": "localhost", "Content-Length": str(len(CONTENT)), **headers(0)}
            text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
            writer.write(f"PATCH {path} HTTP/1.1\r\n{text}\r\n".encode() + CONTENT[: 2 * CHUNK_BYTES + 1000])
            async with asyncio.timeout(PATIENCE):
                while await offset_of(client, path) < 2 * CHUNK_BYTES:
                    await asyncio.sleep(0.01)
            await app.stop(number)
            writer.transport.abort()

        async with run_app(
            "-P", str(unused_tcp_port), url=url, output=tmp_path / "out", environment=environment
        ) as app:
            await app.ready()
            offset = await offset_of(client, path)
            rest = io.BytesIO(CONTENT[offset:])
            async with client.patch(path, data=rest, headers=headers(offset)) as answer:
                found = (answer.status, answer.headers["Upload-Offset"])

    assert offset >= 2 * CHUNK_BYTES
    assert (204, str(len(CONTENT))) == found
    assert "unexpected error" not in (tmp_path / "log").read_text()
