"""The gatherer through nginx and 4 workers: each line once, in MongoDB and in the dump, despite crashes."""

import asyncio
import json
import os
import signal
from collections import defaultdict
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientPayloadError, ClientSession

from bench.running_stack import RunningStack
from src.accounts.users import UserStore
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.errors import describe_status
from src.settings import Settings

from ..processes import PATIENCE
from .conftest import KEYS, grep_logs
from .mongod import Mongod
from .test_accounts import do
from .test_restart import all_running
from .traffic import HEADERS, Outcome, post

pytestmark = pytest.mark.stack

PASSWORD = "a password of the senders"
SENDERS, EACH = 8, 100


async def identify(client: ClientSession, username: str) -> str:
    """Identify and authenticate, with retries, and return the token."""
    while True:
        outcome = await post(client, "/identify", {"message_type": "IDENTIFY", "username": username})
        if outcome.status in {201, 202}:
            body = {"message_type": "AUTHENTICATE", "username": username, "password": PASSWORD}
            outcome = await post(client, "/authenticate", body)
            if outcome.status in {201, 202}:
                return str(outcome.body["token"])
        await asyncio.sleep(0.1)


async def send(client: ClientSession, token: str, messages: list[str], batch: str) -> Outcome:
    """Send a batch once."""
    body = {"message_type": "MESSAGE", "token": token, "messages": messages, "batch": batch}
    return await post(client, "/message", body)


@pytest.fixture
async def operator(client: ClientSession, mongod: Mongod, stack: RunningStack) -> str:
    """The access token of an operator of the stack."""
    await all_running(stack)
    credentials = {"username": "stack-operator", "password": PASSWORD}
    if (await post(client, "/register", credentials)).status == 201:
        mongo = Mongo(Settings(_env_file=None, keys=KEYS), mongod.url)
        users = UserStore(mongo, KeyRing.parse(KEYS), group_commit(max_batch=10, max_queue=10))
        user = await users.find_by_name("stack-operator")
        assert user
        await users.change(user, operator=True)
        await mongo.close()
    return str((await do(client, "POST", "/login", credentials))["access_token"])


async def gathered(client: ClientSession, operator: str, prefix: str) -> dict[str, list[tuple[int, str]]]:
    """Return number and text of each message by sender, as exported."""
    headers = {"Authorization": f"Bearer {operator}"}
    async with client.get("/gathered", headers=headers) as response:
        assert response.status == 200
        assert HEADERS.items() <= dict(response.headers).items()
        assert len(response.headers["X-Request-ID"]) == 32
        assert response.headers["Content-Type"] == "application/x-ndjson"
        return by_sender((await response.text()).split("\n"), prefix)


def by_sender(lines: list[str], prefix: str) -> dict[str, list[tuple[int, str]]]:
    found = defaultdict(list)
    for line in filter(None, lines):
        entry = json.loads(line)
        if entry["username"].startswith(prefix):
            found[entry["username"]].append((entry["sequence"], entry["message"]))
    return found


def dumped(stack: RunningStack, prefix: str) -> dict[str, list[tuple[int, str]]]:
    """Return the same from the dump, rotated files first."""
    path = stack.log_dir / "gathered.jsonl"
    files = [*sorted(path.parent.glob(f"{path.name}.2*")), path]
    return by_sender([line for one in files for line in one.read_text().split("\n")], prefix)


def dump_writer(stack: RunningStack) -> int:
    """Return the process id of the worker that writes the dump."""
    inode = (stack.log_dir / "gathered.jsonl.lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
            return int(fields[4])
    return 0


async def test_every_line_is_there_once_after_workers_were_killed(
    stack: RunningStack, client: ClientSession, operator: str
) -> None:
    """20,000 lines while a worker and the dump's writer are killed: once each, numbered, in order."""
    prefix = "killed-"
    sent: dict[str, list[str]] = {}
    failures: set[int] = set()
    stored = 0

    async def sender(name: str) -> None:
        nonlocal stored
        sent[name] = [f"{name} line {number}" for number in range(20_000 // SENDERS)]
        token = await identify(client, name)
        for start in range(0, len(sent[name]), EACH):
            while True:
                outcome = await send(client, token, sent[name][start : start + EACH], f"{name} {start}")
                if outcome.status == 201:
                    assert outcome.body["first_sequence"] == start + 1
                    stored += EACH
                    break
                failures.add(outcome.status)
                await asyncio.sleep(0.05)

    async def kill() -> None:
        while stored < 4_000:
            await asyncio.sleep(0.01)
        # Not 0, the process group of the tests, which it is while the next worker takes over.
        while not (writer := dump_writer(stack)):
            await asyncio.sleep(0.01)
        os.kill(writer, signal.SIGKILL)
        while stored < 12_000:
            await asyncio.sleep(0.01)
        workers = await asyncio.to_thread(stack.worker_pids)
        os.kill(next(pid for pid in workers if pid), signal.SIGKILL)

    await asyncio.gather(*(sender(f"{prefix}{number}") for number in range(SENDERS)), kill())
    expected = {name: list(enumerate(lines, start=1)) for name, lines in sent.items()}
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, dumped(stack, prefix).values())) < 20_000:
            await asyncio.sleep(0.1)

    assert await gathered(client, operator, prefix) == expected
    assert dumped(stack, prefix) == expected
    assert failures <= {0, 502, 503, 504}
    await all_running(stack)


async def test_a_response_of_a_dying_worker_is_recognizably_incomplete(
    stack: RunningStack, client: ClientSession, operator: str
) -> None:
    """Nginx closes the connection before the end of the body."""
    token = await identify(client, "large")
    for number in range(20):
        assert (await send(client, token, ["x" * 1_000_000], f"large {number}")).status == 201
    workers = await all_running(stack)
    async with client.get("/gathered", headers={"Authorization": f"Bearer {operator}"}) as response:
        assert response.status == 200
        await response.content.read(1000)
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        with pytest.raises(ClientPayloadError):
            await response.read()
    await all_running(stack)


async def test_errors_of_nginx_have_the_members_of_the_protocol(client: ClientSession) -> None:
    """A sender reads the status from the body, also of nginx; other clients get no such members."""
    for path in ("/identify", "/authenticate", "/message", "/generate"):
        async with client.post(path, data=BytesIO(b"x" * 1_100_000)) as response:
            problem: dict[str, Any] = await response.json(content_type="application/problem+json")
        words = {name: problem.get(name) for name in ("status_message", "status_code", "status_description")}

        assert (response.status, problem["code"]) == (413, "too_large")
        if path == "/generate":
            assert set(words.values()) == {None}
        else:
            assert problem.get("token") == ("" if path == "/authenticate" else None)
            assert words == {
                "status_message": problem["detail"],
                "status_code": 413,
                "status_description": describe_status(413),
            }


async def test_data_of_senders_is_only_in_the_dump(stack: RunningStack, client: ClientSession, mongod: Mongod) -> None:
    """Neither logs nor database contain names, passwords, tokens, batch ids or texts."""
    name, text, batch = "leak-sender-71c0", "Leak-Message-5e21d8", "Leak-Batch-0b9f3a"
    token = await identify(client, name)
    assert (await send(client, token, [text], batch)).status == 201
    assert (await send(client, token, [text, text], batch)).status == 409
    assert (await send(client, token + text, [text], batch)).status == 401
    assert (await post(client, "/message", {"message_type": text, "token": token, text: name})).status == 400
    async with client.get("/gathered", params={"username": name, "since": text}) as response:
        assert response.status == 401
    marks = [name, text, batch, token, PASSWORD]
    path = stack.log_dir / "gathered.jsonl"
    async with asyncio.timeout(PATIENCE):
        while text not in path.read_text():
            await asyncio.sleep(0.05)

    assert await grep_logs(stack, *marks) == [str(path)]
    stored = mongod.dump()
    assert [mark for mark in marks if mark in stored] == []
    assert path.stat().st_mode & 0o777 == 0o600
