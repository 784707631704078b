"""Key rotation: all documents move to the newest key under traffic, without any effect on users."""

import asyncio
import itertools
import json
import os
import pty
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from pydantic import SecretStr

from src.accounts.deletion import AccountDeletion
from src.accounts.users import UserContent, UserStore
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, new_key, read_key_ring
from src.core.database import prerequisites, resealing
from src.core.database.group_commit import group_commit
from src.core.database.prerequisites import KeyChecks
from src.core.database.resealing import Resealed, Resealing
from src.errors import Unavailable
from src.sealed.feature import EXPIRING
from src.storage import RESEALABLE

from . import programs
from .commands import Operator
from .conftest import PASSWORD, Api
from .processes import PATIENCE
from .test_registration import invite, operator_of, register

Serve = Callable[..., Awaitable[Api]]
COLLECTIONS = ("users", "sessions", "api_tokens")
STANDING_STILL = """
import asyncio, sys
from src.core.database import resealing
from src.manage.__main__ import main

async def write_some(self, changes):
    if self.collection == "{collection}":
        if len(written) == {count}:
            print("standing still", flush=True)
            await asyncio.Event().wait()
        written.append(changes)
    return await write(self, changes)

written, write = [], resealing._Records._write
resealing.BATCH, resealing._Records._write = 1, write_some
sys.exit(main(sys.argv[1:]))
"""
"""The command with the smallest batches, which ends by itself only if it has fewer of a collection than a count."""


@dataclass
class Rotation:
    """Two keys, and servers of one database with either or both."""

    old: str
    new: str
    serve: Serve
    url: str
    database: str = ""

    async def start(self, *keys: str, **overrides: Any) -> Api:
        """Start a server with these keys, newest first."""
        if self.database:
            overrides["mongo_database"] = self.database
        # The audit would write events, which are sealed as well, at times of its own.
        api = await self.serve(keys=SecretStr(",".join(keys)), **{"audit_ttl": 0, **overrides})
        self.database = api.settings.mongo_database
        return api

    def operator(self, api: Api, script: str = "") -> Operator:
        """Return the operator of a server."""
        return Operator(Operator.of(api.settings, self.url).environment, script)

    @property
    def ids(self) -> tuple[str, str]:
        """The ids of the old and the new key."""
        return self.old.partition(":")[0], self.new.partition(":")[0]


@pytest.fixture
def rotation(serve: Serve, mongo_url: str, monkeypatch: pytest.MonkeyPatch) -> Rotation:
    """A rotation that has not started, of servers that check their keys only when they start."""
    # At the next check, a minute later, a server without the new key would refuse all requests.
    monkeypatch.setattr(prerequisites, "CHECK_SECONDS", 10 * PATIENCE)
    return Rotation(new_key(), new_key(), serve, mongo_url)


def resealing_of(api: Api, *keys: str) -> Resealing:
    """Return the command's objects, on a server's own connection."""
    ring = KeyRing.parse(",".join(keys)) if keys else read_key_ring(api.settings)
    return Resealing(api.mongo, ring, RESEALABLE, EXPIRING)


def quietly(*_: object) -> None:
    """Report nothing."""


async def under(api: Api, key_id: str, collection: str, ids: Sequence[bytes] | None = None) -> int:
    """Count the documents under a key."""
    query = {"key_id": key_id, **({"_id": {"$in": list(ids)}} if ids is not None else {})}
    return int(await api.mongo.collection(collection).count_documents(query))


async def stands_still(command: programs.Process) -> None:
    """Wait until a command that runs `STANDING_STILL` stops. A count is unreliable: traffic deletes documents."""
    assert command.stdout is not None
    async with asyncio.timeout(PATIENCE):
        await command.stdout.readuntil(b"standing still\n")


async def contents(api: Api) -> dict[str, list[Any]]:
    """Return every document that can be resealed."""
    return {name: await api.mongo.collection(name).find({}).sort("_id", 1).to_list(None) for name in COLLECTIONS}


async def in_parallel(work: Callable[[int], Awaitable[Any]], count: int, *, at_once: int = 20) -> list[Any]:
    """Return the results of the work for each number."""
    gate = asyncio.Semaphore(at_once)

    async def one(number: int) -> Any:
        async with gate:
            return await work(number)

    return await asyncio.gather(*map(one, range(count)))


@dataclass
class Person:
    """A user with a session and an API token, as known to their programs."""

    name: str
    password: str = PASSWORD
    refresh_token: str = ""
    api_token: str = ""

    async def arrive(self, api: Api) -> None:
        """Register, sign in and make an API token."""
        await api.register(self.name)
        pair = await api.login(self.name)
        _, made = await api.call("POST", "/tokens", {"name": "ci", "scopes": ["secrets"]}, token=pair["access_token"])
        self.refresh_token, self.api_token = pair["refresh_token"], made["token"]

    async def refresh(self, api: Api) -> None:
        """Refresh the session."""
        status, pair = await api.call("POST", "/refresh", {"refresh_token": self.refresh_token})

        assert 200 == status
        self.refresh_token = pair["refresh_token"]

    async def change_password(self, api: Api) -> None:
        """Change the password."""
        access_token = (await api.login(self.name.upper(), self.password))["access_token"]
        body = {"current": self.password, "new": self.password + "!"}

        assert 204 == (await api.call("PUT", "/me/password", body, token=access_token))[0]
        self.password += "!"

    async def use_everything(self, api: Api) -> None:
        """Sign in, refresh and use the API token."""
        await api.login(self.name.upper(), self.password)
        if self.refresh_token:
            await self.refresh(api)
            # Valid, but without the scope: 403. An invalid token gets 401.
            assert 403 == (await api.call("GET", "/me", token=self.api_token))[0]


@dataclass
class Traffic:
    """Traffic during the rotation, which must see no effect of it."""

    api: Api
    signing_in: Sequence[Person]
    changing: Sequence[Person]
    newcomers: list[Person] = field(default_factory=list)
    rounds: int = 0

    @asynccontextmanager
    async def going_on(self) -> AsyncIterator[None]:
        """Keep the traffic running; its failures fail the block."""
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self._repeat(stop, act)) for act in (self._come_back, self._change, self._register)
        ]
        try:
            yield
            seen = self.rounds
            while self.rounds == seen and not any(task.done() for task in tasks):
                await asyncio.sleep(0.01)
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _repeat(self, stop: asyncio.Event, act: Callable[[int], Awaitable[None]]) -> None:
        for number in itertools.count():
            if stop.is_set():
                return
            await act(number)
            self.rounds += 1
            # As users do, and to leave CPU time for the commands.
            await asyncio.sleep(0.01)

    async def _come_back(self, number: int) -> None:
        person = self.signing_in[number % len(self.signing_in)]
        await self.api.login(person.name.title(), person.password)
        await person.refresh(self.api)

    async def _change(self, number: int) -> None:
        person = self.changing[number % len(self.changing)]
        # The earlier session has ended then.
        person.refresh_token = ""
        await person.change_password(self.api)

    async def _register(self, number: int) -> None:
        self.newcomers.append(Person(f"newcomer-{number}"))
        await self.api.register(f"newcomer-{number}")


@pytest.mark.lifecycle
async def test_killed_and_repeated_under_traffic_no_user_is_lost(rotation: Rotation) -> None:
    """60 users with sessions and API tokens notice nothing, also when the old key is removed."""
    before = await rotation.start(rotation.old, bcrypt_cost=4)
    people = [Person(f"User-{number}") for number in range(60)]
    await in_parallel(lambda number: people[number].arrive(before), len(people))
    ids = [document["_id"] for document in (await contents(before))["users"]]
    both = await rotation.start(rotation.new, rotation.old, bcrypt_cost=5)  # so each sign-in seals the user anew
    traffic = Traffic(both, people[:20], people[20:30])
    old, new = rotation.ids
    to_kill, to_interrupt = (
        rotation.operator(both, STANDING_STILL.format(collection=collection, count=count))
        for collection, count in (("users", 25), ("api_tokens", 10))
    )

    async def name_is_taken(number: int) -> None:
        for api in (before, both):
            body = {"username": people[number].name.swapcase(), "password": PASSWORD}
            assert 409 == (await api.call("POST", "/register", body))[0]

    async with traffic.going_on():
        async with to_kill.running("keys", "reseal", stderr=asyncio.subprocess.DEVNULL) as killed:
            await stands_still(killed)
            killed.kill()
            assert -signal.SIGKILL == await killed.wait()
        assert 0 < await under(both, new, "users", ids)
        assert 0 < await under(both, old, "users", ids)
        await in_parallel(name_is_taken, len(people))

        async with to_interrupt.running("keys", "reseal") as interrupted:
            await stands_still(interrupted)
            interrupted.send_signal(signal.SIGINT)
            _, told = await interrupted.communicate()
        assert (130, True) == (interrupted.returncode, b"can run the command again" in told)
        assert 0 < await under(both, new, "api_tokens")
        assert 0 < await under(both, old, "api_tokens")

        one, other = await asyncio.gather(*(rotation.operator(both).run("keys", "reseal") for _ in range(2)))
        assert (0, 0) == (one.code, other.code), one.stderr + other.stderr
        assert f"{old}: may be dropped now" in one.stdout + other.stdout
        await in_parallel(name_is_taken, len(people))

    state = await contents(both)
    again = await rotation.operator(both).run("keys", "reseal")
    assert state == await contents(both)
    assert (0, len(RESEALABLE)) == (again.code, again.stdout.count(": 0 re-encrypted or re-indexed"))
    assert f"{old}: may be dropped now" in again.stdout
    after = await rotation.start(rotation.new, bcrypt_cost=5)
    everyone = [*people, *traffic.newcomers]
    await in_parallel(lambda number: everyone[number].use_everything(after), len(everyone))
    assert len(everyone) == await after.mongo.collection("users").count_documents({})


async def test_of_two_at_once_each_document_is_resealed_by_one(
    rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By compare-and-set, one process skips documents that the other has resealed."""
    monkeypatch.setattr(resealing, "BATCH", 7)
    before = await rotation.start(rotation.old)
    await in_parallel(lambda number: Person(f"user-{number}").arrive(before), 30)
    keys = (rotation.new, rotation.old)

    both = await asyncio.gather(*(resealing_of(before, *keys).run(quietly) for _ in range(3)))

    others = [0] * (len(RESEALABLE) - len(COLLECTIONS))
    assert [30, 30, 30, *others] == [sum(done.changed for done in collection) for collection in zip(*both, strict=True)]
    for name in COLLECTIONS:
        assert (0, 30) == (await under(before, rotation.ids[0], name), await under(before, rotation.ids[1], name))


async def test_an_invitation_is_resealed(rotation: Rotation) -> None:
    """It works without the old key, with its role and for its maker."""
    before = await rotation.start(rotation.old)
    text = (await invite(before, await operator_of(before), role="operator"))["invitation"]
    both = await rotation.start(rotation.new, rotation.old)
    assert 0 == (await rotation.operator(both).run("keys", "reseal")).code
    after = await rotation.start(rotation.new, registration="invite")

    assert (201, "") == await register(after, "ann", text)
    assert 200 == (await after.call("GET", "/users", token=(await after.login())["access_token"]))[0]


async def test_a_document_that_changes_meanwhile_is_read_again(
    rotation: Rotation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A concurrent password change is kept, and a deleted account stays deleted."""
    before = await rotation.start(rotation.old)
    both = await rotation.start(rotation.new, rotation.old)
    ann, bob, eve = Person("ann"), Person("bob"), Person("eve")
    for person in (ann, bob, eve):
        await person.arrive(before)
    write = resealing._Records._write

    async def write_late(records: Any, changes: Any) -> Any:
        monkeypatch.setattr(resealing._Records, "_write", write)
        await ann.change_password(before)  # as a process without the new key does
        await bob.change_password(both)
        token = (await both.login("eve"))["access_token"]
        assert 204 == (await both.call("DELETE", "/me", {"password": PASSWORD}, token=token))[0]
        return await write(records, changes)

    monkeypatch.setattr(resealing._Records, "_write", write_late)

    users, *_ = await resealing_of(both).run(quietly)

    # Bob's own change has sealed him under the new key; only his index was missing.
    assert (2, [], []) == (users.changed, users.unopened, users.clashing)
    await KeyChecks(both.mongo, read_key_ring(both.settings)).retire_all_but([])
    after = await rotation.start(rotation.new)
    await after.login("ANN", ann.password)
    await after.login("BOB", bob.password)
    assert 401 == (await after.call("POST", "/login", {"username": "eve", "password": PASSWORD}))[0]


async def test_an_account_without_an_index_under_the_newest_key_keeps_the_old_one(rotation: Rotation) -> None:
    """A password change seals under the newest key but does not index: without resealing, the name would be lost."""
    before = await rotation.start(rotation.old)
    await before.register()
    both = await rotation.start(rotation.new, rotation.old)
    old, new = rotation.ids
    await Person("ann").change_password(both)
    await both.mongo.collection("sessions").delete_many({})

    listed = await rotation.operator(both).run("keys", "list")

    assert (0, 1) == (await under(both, old, "users"), await under(both, new, "users"))
    row = next(line for line in listed.stdout.splitlines() if line.startswith(old))
    assert row.endswith("no: 1 under the newest key to re-index (keys reseal)")
    await resealing_of(both).run(quietly)
    uses = await resealing_of(both).uses()
    assert [(new, False), (old, True)] == [(use.key_id, uses.may_be_dropped(use)) for use in uses.keys]
    await KeyChecks(both.mongo, read_key_ring(both.settings)).retire_all_but([])
    after = await rotation.start(rotation.new)
    await after.login("ANN", f"{PASSWORD}!")


async def test_a_key_is_needed_until_its_secrets_are_gone(rotation: Rotation) -> None:
    """Until they are opened or have expired; the command says how many and until when."""
    before = await rotation.start(rotation.old)
    await before.create(ttl={"minutes": 5})
    longest = await before.create(ttl={"hours": 1})
    opened = await before.create()
    await before.open(opened["secret_key"])
    both = await rotation.start(rotation.new, rotation.old)
    await both.create()
    old, new = rotation.ids
    operator = rotation.operator(both)

    ended, listed = await asyncio.gather(operator.run("keys", "reseal"), operator.run("keys", "list", "--json"))

    until = longest["expires_at"][:19].replace("T", " ")
    assert f"{old}: still needed: 2 items waiting until {until}Z at the latest" in ended.stdout
    lines = [json.loads(line) for line in listed.stdout.splitlines()]
    assert [(new, 1), (old, 2)] == [(line["key_id"], line["waiting_items"]) for line in lines]
    past = utc_now() - timedelta(seconds=1)
    await both.items.update_many({"key_id": old}, {"$set": {"expires_at": past}})
    uses = await resealing_of(both).uses()
    assert [False, True] == [uses.may_be_dropped(use) for use in uses.keys]


async def test_damaged_documents_are_reported_and_left(rotation: Rotation) -> None:
    """A modified envelope or unknown key does not stop the others; an invalid key id is not shown."""
    before = await rotation.start(rotation.old)
    for name in ("ann", "bob", "eve"):
        await Person(name).arrive(before)
    users = before.mongo.collection("users")
    ids = [document["_id"] for document in await users.find({}).sort("_id", 1).to_list(None)]
    await users.update_one({"_id": ids[0]}, {"$set": {"envelope": b"x" * 100}})
    await users.update_one({"_id": ids[1]}, {"$set": {"key_id": rotation.ids[1]}})
    await before.mongo.collection("sessions").update_one({}, {"$set": {"key_id": "lost"}})
    await before.mongo.collection("api_tokens").update_one({}, {"$set": {"key_id": "\x1b[2J"}})
    await before.create()
    await before.items.update_one({}, {"$set": {"key_id": "lost"}})
    both = await rotation.start(rotation.new, rotation.old)
    broken = [
        await users.find_one({"_id": ids[0]}),
        await before.mongo.collection("sessions").find_one({"key_id": "lost"}),
    ]
    operator = rotation.operator(both)

    missing = {use.key_id: (use.sealed, use.waiting) for use in await resealing_of(both).missing()}
    ended, listed = await asyncio.gather(operator.run("keys", "reseal"), operator.run("keys", "list"))

    assert {"lost": ({"sessions": 1}, {"items": 1}), None: ({"api_tokens": 1}, {})} == missing
    assert (1, 1) == (ended.code, listed.code)
    assert [
        "users: 1 re-encrypted or re-indexed",
        "sessions: 2 re-encrypted or re-indexed",
        "api_tokens: 2 re-encrypted or re-indexed",
    ] == ended.stdout.splitlines()[:3]
    assert f"users: 2 cannot be decrypted and were not changed: {ids[0].hex()}, {ids[1].hex()}\n" in ended.stderr
    assert f"{rotation.ids[0]}: still needed: 1 to reseal" in ended.stdout
    assert "lost: not in the key ring: 1 to reseal; 1 items waiting until" in ended.stdout
    assert "these keys are not in the key ring" in listed.stderr
    assert "lost, (no key id)" in listed.stderr
    assert "\x1b" not in ended.stdout + ended.stderr + listed.stdout + listed.stderr
    assert broken == [
        await users.find_one({"_id": ids[0]}),
        await both.mongo.collection("sessions").find_one({"key_id": "lost"}),
    ]


async def test_two_of_one_name_are_reported_and_left(rotation: Rotation) -> None:
    """A name may be registered again while the old key is missing from the ring."""
    before = await rotation.start(rotation.old)
    await before.register("ann")
    await before.register("bob")
    # A process of an older version, which did not check its keys.
    without = UserStore(before.mongo, KeyRing.parse(rotation.new), group_commit(max_batch=1, max_queue=1))
    assert await without.add(UserContent(username="ANN")) is not None
    both = await rotation.start(rotation.new, rotation.old)
    store = UserStore(both.mongo, read_key_ring(both.settings), group_commit(max_batch=1, max_queue=1))

    [users, *_] = await resealing_of(both).run(quietly)

    assert (1, [], True) == (users.changed, users.unopened, 1 <= len(users.clashing))
    assert sorted(["ann", "ANN", "bob"]) == sorted([user.name async for user in store.all()])  # type: ignore[union-attr]
    assert 1 == (await rotation.operator(both).run("keys", "reseal")).code


async def test_a_rejected_write_is_no_success(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails, except for a duplicate name, ends the run, which can be repeated."""
    before = await rotation.start(rotation.old)
    await Person("ann").arrive(before)
    both = await rotation.start(rotation.new, rotation.old)
    monkeypatch.setattr(resealing._Records, "_changes", lambda *_: {"_id": b"what no update may change"})

    with pytest.raises(Unavailable):
        await resealing_of(both).run(quietly)

    monkeypatch.undo()
    assert [1, 1, 1] == [done.changed for done in await resealing_of(both).run(quietly) if done.changed]


async def test_a_user_who_is_being_deleted_is_resealed(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that such a user does not keep the old key in use."""
    # A server that starts would finish the deletion.
    monkeypatch.setattr(AccountDeletion, "watch", AsyncMock())
    before = await rotation.start(rotation.old)
    store = UserStore(before.mongo, read_key_ring(before.settings), group_commit(max_batch=1, max_queue=1))
    user = await store.add(UserContent(username="ann"))
    assert user is not None
    await store.mark_deleting(user.user_id)

    [users, *_] = await resealing_of(before, rotation.new, rotation.old).run(quietly)

    assert Resealed("users", changed=1) == users


async def test_a_progress_bar_is_shown_on_a_terminal(rotation: Rotation) -> None:
    """On stderr, one line for each collection; results are on stdout."""
    before = await rotation.start(rotation.old)
    await Person("ann").arrive(before)
    both = await rotation.start(rotation.new, rotation.old)
    terminal, stderr = pty.openpty()

    def read() -> bytes:
        written = b""
        # Once all writers have closed the terminal, reading raises an error.
        with suppress(OSError):
            while part := os.read(terminal, 100_000):
                written += part
        return written

    # Meanwhile: a terminal holds at most 4 kB of unread output.
    reading = asyncio.create_task(asyncio.to_thread(read))
    ended = await rotation.operator(both).run("keys", "reseal", stderr=stderr)
    os.close(stderr)
    shown = (await reading).decode()
    os.close(terminal)

    assert "users: 1 re-encrypted or re-indexed" == ended.stdout.splitlines()[0]
    for name in COLLECTIONS:
        assert name in shown
    assert "1/1" in shown
