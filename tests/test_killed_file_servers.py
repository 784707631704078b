"""Secrets with files on servers that are killed: no reader too many, and no file is left."""

import asyncio
import json
import random
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pymongo
import pytest

from src.core.crypto.keys import new_key

from .conftest import DRIVER
from .databases import Databases
from .processes import PATIENCE, AppProcess, run_app

pytestmark = pytest.mark.lifecycle
CONTENT = b"content of the file"
MEDIA_TYPE = "application/offset+octet-stream"


class Server:
    """A server that is killed and started again, over the same database."""

    def __init__(self, port: int, environment: dict[str, str], output: Path) -> None:
        self._port = port
        self._environment = environment
        self._output = output
        self.url = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[AppProcess]:
        """Run it while the block runs."""
        arguments = ("-P", str(self._port))
        async with run_app(*arguments, url=self.url, output=self._output, environment=self._environment) as app:
            await app.ready()
            yield app

    async def call(self, method: str, path: str, body: object = None, **options: Any) -> tuple[int, Any]:
        """Return the status and answer; 0 if there was none."""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.request(method, self.url + path, json=body, **options) as response,
            ):
                text = await response.text()
                return response.status, json.loads(text) if text else None
        except (aiohttp.ClientError, OSError):
            return 0, None

    async def create(self) -> Any:
        """Create a secret with a file."""
        _, created = await self.call("POST", "/files", headers={"Upload-Length": str(len(CONTENT))})
        headers = {"Content-Type": MEDIA_TYPE, "Upload-Offset": "0"}
        async with (
            aiohttp.ClientSession() as session,
            session.patch(f"{self.url}/files/{created['upload']}", data=CONTENT, headers=headers) as response,
        ):
            assert 204 == response.status
        status, secret = await self.call("POST", "/generate", {"files": [{"upload": created["upload"]}]})
        assert 201 == status
        return secret

    async def use(self, secret: Any, what: str) -> list[str]:
        """Open a secret for two readers, and end it; return the readers who got it."""
        path, readers = f"/secrets/{secret['secret_key']}", [secrets.token_urlsafe(32) for _ in range(2)]
        opened = await asyncio.gather(*(self.call("POST", path, {"reader": reader}) for reader in readers))
        winners = [reader for reader, (status, _) in zip(readers, opened, strict=True) if status == 200]
        if what == "receive" and winners:
            await self.call("POST", f"{path}/received", {"reader": winners[0]})
        if what == "burn":
            await self.call("DELETE", f"/receipts/{secret['receipt_key']}")
        return winners


async def test_a_killed_server_leaves_no_files(
    mongo_url: str, databases: Databases, unused_tcp_port: int, tmp_path: Path
) -> None:
    """SIGKILL at any moment of opening, confirming and burning: the next process erases what has ended."""
    database = databases.take()
    environment = {
        "SEALPOST_MONGO_URL": mongo_url,
        "SEALPOST_MONGO_DATABASE": database,
        "SEALPOST_MONGO_DRIVER": DRIVER,
        "SEALPOST_KEYS": new_key(),
        "SEALPOST_RATE_LIMITS": "off",
        "SEALPOST_FILE_HOLD": "2",
    }
    server = Server(unused_tcp_port, environment, tmp_path / "output")
    created = []
    for _ in range(4):
        async with server.running() as app:
            new = [await server.create() for _ in range(6)]
            created += new
            using = [
                asyncio.create_task(server.use(one, ("receive", "burn", "leave")[number % 3]))
                for number, one in enumerate(new)
            ]
            await asyncio.sleep(random.random() * 0.1)  # noqa: S311 (which moment is no secret)
            app.process.kill()
            await app.process.wait()
            assert all(len(winners) < 2 for winners in await asyncio.gather(*using))

    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        async with server.running(), asyncio.timeout(PATIENCE):
            for one in created:
                await server.call("DELETE", f"/receipts/{one['receipt_key']}")
            while client[database]["chunks"].count_documents({}):
                await asyncio.sleep(0.1)

        assert 0 == client[database]["uploads"].count_documents({})
        assert 0 == client[database]["items"].count_documents({"envelope": {"$exists": True}})
    databases.give_back(database)
