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

from bench.running_stack import RunningStack, running_stack
from src.core.database.embedded import replica_set
from src.core.database.storage_budget import NEAR_SECONDS
from src.core.files import read_number, read_secret
from src.errors import StorageFull

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
PATIENCE = 120
IN_A_ROW = 20  # answers, so that each of four workers has given some


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


Store = Callable[[], Awaitable[Outcome]]


async def fill(store: Store) -> None:
    """Store until every worker refuses to, several requests at once."""
    refused: list[Outcome] = []

    async def work() -> None:
        while len(refused) < IN_A_ROW:
            outcome = await store()
            if outcome.status == 201:
                refused.clear()
            else:
                refused.append(outcome)

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))

    assert {(507, "storage_full")} == {(outcome.status, outcome.body["code"]) for outcome in refused}


async def fill_for_good(full: FullStack, store: Store) -> None:
    """Fill, also what each checkpoint of MongoDB gives back of its journal."""
    for _ in range(3):
        await fill(store)
        full.checkpoint()
        await asyncio.sleep(1.5 * NEAR_SECONDS)


async def until_stored(full: FullStack, store: Store) -> None:
    """Wait until something can be stored again."""
    async with asyncio.timeout(PATIENCE):
        while (outcome := await store()).status != 201:
            assert outcome.status == 507, outcome
            full.checkpoint()
            await asyncio.sleep(0.5)


async def until_all_say(client: ClientSession, creating: str | None) -> None:
    """Wait until the workers, which are ready all the time, say so of creating; each looks by itself."""
    async with asyncio.timeout(PATIENCE):
        in_a_row = 0
        while in_a_row < IN_A_ROW:
            async with client.get("/readyz") as response:
                assert response.status == 200
                in_a_row = in_a_row + 1 if (await response.json()).get("creating") == creating else 0
                await asyncio.sleep(0.02)


async def test_a_full_disk_pauses_creating_alone(full: FullStack, client: ClientSession) -> None:
    """Filled until 507, secrets can be opened, read and burned; once some are gone, creating works again by itself."""
    mongod = full.mongod
    created: list[dict[str, Any]] = []
    lives = 3600

    async def generate() -> Outcome:
        outcome = await post(client, "/generate", {"secret": TEXT, "ttl": {"seconds": lives}})
        if outcome.status == 201:
            created.append(outcome.body)
        return outcome

    message = await post(client, "/", {"message": "a message"})
    await fill_for_good(full, generate)

    assert len(created) > 50
    await until_all_say(client, "paused")
    refused = await post(client, "/generate", {"secret": "small"})
    assert (refused.status, refused.body["detail"]) == (507, StorageFull.default)
    async with client.get(message.body["url"]) as response:
        assert (await response.json())["message"] == "a message"
    opened = await post(client, f"/secrets/{created.pop()['secret_key']}")
    assert opened.body["secret"] == TEXT
    for body in created:
        async with client.delete(f"/receipts/{body['receipt_key']}") as response:
            assert response.status == 204
    lives = SHORT_LIFE
    await until_stored(full, generate)
    await until_all_say(client, None)
    await fill_for_good(full, generate)
    # Nothing is done about these: they expire.
    await until_stored(full, generate)
    assert full.mongod == mongod


async def test_a_gatherer_does_not_fill_the_disk(full: FullStack, client: ClientSession) -> None:
    """Senders are refused before the disk is full, and send again once messages have been deleted."""
    mongod = full.mongod
    credentials = {"username": "sender", "password": PASSWORD}
    await post(client, "/register", credentials)
    token = await identify(client, "sender")
    other = await identify(client, "other")
    stored = 0

    async def gather() -> Outcome:
        nonlocal stored
        outcome = await send(client, token, [secrets.token_hex(5000) for _ in range(100)], secrets.token_hex(8))
        stored += outcome.status == 201
        return outcome

    # One worker writes all messages. The others, which look by themselves, may just have room.
    await fill_for_good(full, gather)

    assert stored > 50
    session_token = (await post(client, "/login", credentials)).body["access_token"]
    headers = {"Authorization": f"Bearer {session_token}"}
    async with client.delete("/me", json={"password": PASSWORD}, headers=headers) as response:
        assert response.status == 204
    await until_stored(full, lambda: send(client, other, ["again"], secrets.token_hex(8)))
    assert full.mongod == mongod
