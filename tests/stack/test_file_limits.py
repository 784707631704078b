"""Uploads that reach the storage limit, and uploads that no secret takes over."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from pymongo import MongoClient

from bench.running_stack import RunningStack, running_stack
from src.core.database.embedded import embedded_mongod, replica_set
from src.core.files import read_number, read_secret
from src.settings import SMALLEST_STORAGE_MAX

from ..processes import PATIENCE
from .conftest import SETTINGS, session
from .files import MIB, append, begin_upload, content_of, offset_of

pytestmark = pytest.mark.stack

LARGE = 60 * MIB
"""Bytes. Two of these exceed the smallest storage limit, and with one of them creating works."""
COLLECTIONS = ("uploads", "chunks", "items", "held")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("limited") / "data"


@pytest.fixture(scope="module")
def limited(data_dir: Path) -> Iterator[RunningStack]:
    """A stack whose database may have 128 MiB, and whose MongoDB looks for expired documents every second."""
    environment = {**SETTINGS, "SEALPOST_STORAGE_MAX": str(SMALLEST_STORAGE_MAX)}
    log_dir = data_dir.parent / "logs"
    with running_stack(data_dir=data_dir, log_dir=log_dir, environment=environment) as running:
        port, key = read_number(data_dir / "mongo" / "port"), read_secret(data_dir / "mongo" / "key")
        assert port is not None
        assert key is not None
        with replica_set.connect_as_system(port, key) as system:
            system.admin.command("setParameter", 1, ttlMonitorSleepSecs=1)
        yield running


def expire(database: Any) -> None:
    """Set all expiries to the past, as if their time had passed, and wait until MongoDB has deleted the documents."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    for name in COLLECTIONS:
        database[name].update_many({}, {"$set": {"delete_at": past, "expires_at": past}})
    wait_until_empty(database)


def wait_until_empty(database: Any) -> None:
    """Wait until MongoDB has deleted all documents of files."""
    deadline = time.monotonic() + PATIENCE
    while left := [name for name in COLLECTIONS if database[name].count_documents({})]:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


@pytest.fixture
def database(data_dir: Path, limited: RunningStack) -> Iterator[Any]:
    with embedded_mongod(data_dir) as url, MongoClient[dict[str, Any]](url) as mongo:
        yield mongo["sealpost"]
        expire(mongo["sealpost"])


@pytest.fixture
async def client(limited: RunningStack) -> AsyncIterator[ClientSession]:
    async with session(limited) as client:
        yield client


async def append_until_complete(client: ClientSession, path: str, content: bytes) -> int:
    """Resume an upload until it is complete, and return the number of refusals on the way."""
    refusals = 0
    async with asyncio.timeout(PATIENCE):
        while (offset := await offset_of(client, path)) != len(content):
            assert offset is not None
            outcome = await append(client, path, offset, content[offset:])
            assert outcome in {(204, ""), (507, "storage_full")}
            refusals += outcome[0] == 507
            await asyncio.sleep(0.2)
    return refusals


async def test_an_upload_waits_for_space(client: ClientSession, database: Any) -> None:
    """It is told 507 in the middle, keeps what is stored, and is completed once another upload has been deleted."""
    first, second = secrets.token_bytes(LARGE), secrets.token_bytes(LARGE)
    path = await begin_upload(client, LARGE)
    assert await append(client, path, 0, first) == (204, "")
    waiting = await begin_upload(client, LARGE)

    assert (507, "storage_full") == await append(client, waiting, 0, second)
    stored = await offset_of(client, waiting)
    assert stored is not None
    assert 0 < stored < LARGE
    assert (507, "storage_full") == await append(client, waiting, stored, second[stored:])
    # An upload can be deleted while storage is full, which makes room.
    async with client.delete(path, headers={"Tus-Resumable": "1.0.0"}) as response:
        assert 204 == response.status
    await append_until_complete(client, waiting, second)
    assert second == await content_of(client, waiting)


async def test_of_an_abandoned_upload_nothing_is_left(client: ClientSession, database: Any) -> None:
    """It is gone for its client the moment it expires, and MongoDB deletes each of its documents."""
    content = secrets.token_bytes(5 * MIB + 5)
    path = await begin_upload(client, len(content))
    await append(client, path, 0, content[: 3 * MIB + 3])
    complete = await begin_upload(client, 3)
    await append(client, complete, 0, b"all")
    past = datetime.now(UTC) - timedelta(seconds=1)

    assert 3 * MIB + 3 == await offset_of(client, path)
    await asyncio.to_thread(database.uploads.update_many, {}, {"$set": {"delete_at": past}})
    assert [None, None] == [await offset_of(client, path), await offset_of(client, complete)]
    assert (404, "upload_not_found") == await append(client, path, 3 * MIB + 3, b"more")
    body = {"files": [{"upload": complete.rpartition("/")[2]}]}
    async with client.post("/generate", json=body) as response:
        assert response.status >= 400
    await asyncio.to_thread(database.chunks.update_many, {}, {"$set": {"delete_at": past}})
    await asyncio.to_thread(wait_until_empty, database)
