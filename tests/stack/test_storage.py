"""A disk that fills: creating pauses in time, everything else works, and MongoDB goes on."""

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from src.core.embedded import replica_set
from src.core.private_files import read_number, read_secret
from src.errors import StorageFull
from src.stack.running import RunningStack, running_stack

from .conftest import session
from .test_gatherer import PASSWORD, identify, send
from .traffic import Outcome, post

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system"),
]

DISK = "700m"
TEXT = "x" * (1024 * 1024 - 200)
AT_ONCE = 8
SHORT_LIFE = 20  # seconds: longer than the disk takes to fill
PATIENCE = 45


@dataclass(frozen=True)
class FullStack:
    """A stack whose embedded MongoDB is on a small disk of its own."""

    running: RunningStack
    home: Path

    @property
    def mongod(self) -> int | None:
        """The process id of MongoDB."""
        return read_number(self.home / "mongod.pid")

    def checkpoint(self) -> None:
        """Let MongoDB do now what it does every minute: return the space of what was deleted."""
        port, key = read_number(self.home / "port"), read_secret(self.home / "key")
        assert port is not None
        assert key is not None
        with replica_set.connect_as_system(port, key) as system:
            system.admin.command("fsync")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 MB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", directory], check=True)
    yield directory
    subprocess.run(["umount", "--lazy", directory], check=True)


@pytest.fixture
def full(disk: Path, tmp_path: Path) -> Iterator[FullStack]:
    environment = {
        "SEALPOST_RATE_LIMITS": "off",
        "SEALPOST_ARGON2_MEMORY_KIB": "64",
        "SEALPOST_BCRYPT_COST": "4",
        "SEALPOST_GATHERED_FILE": "off",
    }
    with running_stack(data_dir=disk / "data", log_dir=tmp_path / "logs", environment=environment) as running:
        yield FullStack(running, disk / "data" / "mongo")


@pytest.fixture
async def client(full: FullStack) -> AsyncIterator[ClientSession]:
    async with session(full.running) as client:
        yield client


Store = Callable[[int], Awaitable[Outcome]]


async def fill(store: Store) -> list[Outcome]:
    """Store until storage is full, several requests at once, and return the answers to what was stored."""
    stored: list[Outcome] = []
    refused: list[Outcome] = []

    async def work() -> None:
        while not refused:
            outcome = await store(len(stored))
            (stored if outcome.status == 201 else refused).append(outcome)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    assert {(507, "storage_full")} == {(outcome.status, outcome.body["code"]) for outcome in refused}
    return stored


async def until_stored(store: Store) -> None:
    """Wait until something can be stored again."""
    async with asyncio.timeout(PATIENCE):
        while (outcome := await store(0)).status != 201:
            assert outcome.status == 507, outcome
            await asyncio.sleep(0.5)


async def creating(client: ClientSession) -> str | None:
    """Return what the workers, which are ready, say of creating."""
    async with client.get("/readyz") as response:
        assert response.status == 200
        answer = await response.json()
        return None if "creating" not in answer else str(answer["creating"])


async def test_a_full_disk_pauses_creating_alone(full: FullStack, client: ClientSession) -> None:
    """Filled until 507, secrets can be opened, read and burned; once some are gone, creating works again by itself."""
    mongod = full.mongod
    lasting: list[dict[str, Any]] = []

    async def generate(number: int) -> Outcome:
        expires = number % 2 == 1
        outcome = await post(client, "/generate", {"secret": TEXT, "ttl": {"seconds": SHORT_LIFE if expires else 3600}})
        if outcome.status == 201 and not expires:
            lasting.append(outcome.body)
        return outcome

    message = await post(client, "/", {"message": "a message"})
    created = await fill(generate)

    assert len(created) > 50
    assert await creating(client) == "paused"
    detail = (await post(client, "/generate", {"secret": "small"})).body["detail"]
    assert detail == StorageFull.default
    async with client.get(message.body["url"]) as response:
        assert (await response.json())["message"] == "a message"
    opened = await post(client, f"/secrets/{lasting.pop()['secret_key']}")
    assert opened.body["secret"] == TEXT
    for body in lasting:
        async with client.delete(f"/receipts/{body['receipt_key']}") as response:
            assert response.status == 204
    await asyncio.sleep(SHORT_LIFE)  # what expires by then is the other half
    full.checkpoint()
    await until_stored(generate)
    assert await creating(client) is None
    assert full.mongod == mongod


async def test_a_gatherer_does_not_fill_the_disk(full: FullStack, client: ClientSession) -> None:
    """Senders are refused before the disk is full, and send again once messages have been deleted."""
    mongod = full.mongod
    credentials = {"username": "sender", "password": PASSWORD}
    await post(client, "/register", credentials)
    token = await identify(client, "sender")
    other = await identify(client, "other")

    async def gather(_: int) -> Outcome:
        return await send(client, token, [secrets.token_hex(5000) for _ in range(100)], secrets.token_hex(8))

    stored = await fill(gather)

    assert len(stored) > 50
    assert await creating(client) == "paused"
    session_token = (await post(client, "/login", credentials)).body["access_token"]
    headers = {"Authorization": f"Bearer {session_token}"}
    async with client.delete("/me", json={"password": PASSWORD}, headers=headers) as response:
        assert response.status == 204
    full.checkpoint()
    await until_stored(lambda _: send(client, other, ["again"], secrets.token_hex(8)))
    assert full.mongod == mongod
