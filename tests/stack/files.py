"""Files through the stack: uploads as single requests, secrets with files, downloads, and the tus client of Node.js."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientSession

from ..processes import PATIENCE
from .npm import install_package
from .traffic import post

MIB = 1024 * 1024
APPENDING = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


@dataclass(frozen=True)
class OpenedFiles:
    """An opening of a secret with files: the reader's key, and the path of each file."""

    reader: str
    paths: list[str]


async def begin_upload(client: ClientSession, size: int) -> str:
    """Create an upload and return its path."""
    headers = {"Tus-Resumable": "1.0.0", "Upload-Length": str(size)}
    async with client.post("/files", headers=headers) as response:
        assert response.status == 201, await response.text()
        return urlsplit(response.headers["Location"]).path


async def offset_of(client: ClientSession, path: str) -> int | None:
    """Return the offset of an upload; None if there is no such upload."""
    async with client.head(path, headers={"Tus-Resumable": "1.0.0"}) as response:
        assert response.status in {200, 404}
        return int(response.headers["Upload-Offset"]) if response.status == 200 else None


async def append(client: ClientSession, path: str, offset: int, data: Any, **headers: str) -> tuple[int, str]:
    """Send bytes, or an asynchronous iterator of bytes, to an upload; return the status and the code of an error."""
    data = BytesIO(data) if isinstance(data, bytes) else data
    async with client.patch(path, data=data, headers={**APPENDING, "Upload-Offset": str(offset), **headers}) as answer:
        text = await answer.text()
        return answer.status, json.loads(text)["code"] if text else ""


async def open_uploads(client: ClientSession, *paths: str) -> OpenedFiles:
    """Create a secret with these uploads as its files, and open it."""
    files = [{"upload": path.rpartition("/")[2]} for path in paths]
    created = await post(client, "/generate", {"files": files})
    assert created.status == 201, created
    key = created.body["secret_key"]
    opened = await post(client, f"/secrets/{key}")
    assert opened.status == 200, opened
    return OpenedFiles(opened.body["reader"], [f"/secrets/{key}/files/{file['id']}" for file in opened.body["files"]])


async def content_of(client: ClientSession, path: str) -> bytes:
    """Return the bytes that a reader of a secret with this upload gets."""
    opened = await open_uploads(client, path)
    async with client.get(opened.paths[0], headers={"Sealpost-Reader": opened.reader}) as response:
        assert response.status == 200, await response.text()
        return await response.read()


async def install_tus_js(directory: Path) -> Path:
    """Install the locked version of tus-js-client, and return the path of the script that uploads with it."""
    return (await asyncio.to_thread(install_package, "tus_js", directory)) / "upload.mjs"


@dataclass
class NodeUpload:
    """A running tus-js-client, and what it has printed so far."""

    process: asyncio.subprocess.Process
    events: list[dict[str, Any]]

    def values(self, name: str) -> list[Any]:
        """Return the values of one member of the events, in order."""
        return [event[name] for event in self.events if name in event]

    async def until(self, name: str, least: int = 0) -> None:
        """Read events until one has this member, with at least this value if it is a number."""
        while True:
            event = await self._next()
            assert event, self.events
            if name in event and (not least or event[name] >= least):
                return

    async def end(self) -> str:
        """Read events until the client exits, and return the outcome."""
        while await self._next():
            pass
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        return str(self.values("outcome")[-1])

    async def _next(self) -> dict[str, Any] | None:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
        if not line:
            return None
        self.events.append(json.loads(line))
        return self.events[-1]


@asynccontextmanager
async def uploading_with_node(script: Path, url: str, path: Path, chunk_size: int | None) -> AsyncIterator[NodeUpload]:
    """Upload a file with tus-js-client, or resume what an earlier run has begun; kill it at the end of the block."""
    options = {
        "endpoint": f"{url}/files",
        "path": str(path),
        "chunkSize": chunk_size,
        "state": f"{path}.uploads",
        "retryDelays": [500] * 60,
    }
    process = await asyncio.create_subprocess_exec(
        "node", str(script), json.dumps(options), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield NodeUpload(process, [])
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
