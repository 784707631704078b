"""The dump of gathered messages: complete, in order, without duplicates, despite crashes and full disks."""

import asyncio
import errno
import json
import os
import random
import resource
import signal
import stat
import subprocess
import tempfile
import time
from asyncio.subprocess import DEVNULL
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from src.accounts.users import UserContent, UserStore
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.core.metrics import Metrics
from src.errors import Unavailable
from src.gatherer.bundle_store import BundleStore
from src.gatherer.dump.lock import DumpLock
from src.gatherer.dump.writer import LOCK_POLL_SECONDS, POLL_SECONDS
from src.gatherer.export import Export

from . import programs
from .conftest import PASSWORD, Api
from .processes import PATIENCE
from .senders import Sender, gathered, operator_token
from .test_metrics import scrape

Serve = Callable[..., Awaitable[Api]]
T = TypeVar("T")
BEHIND = 1.0
"""Seconds that the dump may be behind messages that another process has stored."""
STDERR = 2
CANNOT, AGAIN = "dump of gathered messages cannot be written: it will catch up", (
    "dump of gathered messages is being written again"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of the dump."""
    return tmp_path / "logs" / "gathered.jsonl"


@pytest.fixture
async def api(serve: Serve, path: Path) -> Api:
    """A server that dumps."""
    return await serve(behind_nginx=True, gathered_file=path)


def read(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a dump, rotated files first."""

    def texts() -> list[str]:
        parts = sorted(path.parent.glob(f"{path.name}.2*"))
        return [part.read_text() for part in [*parts, path] if part.exists()]

    # A line is complete with its line break; the last one may be in the middle of its write.
    return [json.loads(line) for text in found(texts) for line in text.split("\n")[:-1]]


def found(look: Callable[[], T]) -> T:
    """Return the current files of a dump; retries if one is renamed meanwhile."""
    while True:
        with suppress(FileNotFoundError):
            return look()


def messages(path: Path) -> list[str]:
    """Return the texts in a dump."""
    return [line["message"] for line in read(path)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)


async def test_stored_messages_are_dumped_at_once(serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One JSON object a line, with members in order as operators get them over HTTP, and readable only by the owner.

    The process that stores a message wakes its writer; the poll, which never comes here, is for those of others.
    """
    monkeypatch.setattr("src.gatherer.dump.writer.POLL_SECONDS", 10 * PATIENCE)
    api = await serve(behind_nginx=True, gathered_file=path)
    sender = Sender(api, username="Web-1")
    token = await sender.token()
    await sender.send(token, "one", "two\u2028\n", batch="b")
    await until(lambda: len(read(path)) == 2)
    await sender.send(token, "three")
    await until(lambda: len(read(path)) == 3)

    assert POLL_SECONDS < BEHIND
    lines = path.read_text()
    assert lines.splitlines(keepends=True) == [
        f'{{"received_at":"{line["received_at"]}","username":"Web-1","sequence":{number},"message":{json.dumps(text)}}}\n'
        for number, (line, text) in enumerate(zip(read(path), ["one", "two\u2028\n", "three"], strict=True), start=1)
    ]
    assert await gathered(api, await operator_token(api)) == read(path)
    assert {0o600} == {stat.S_IMODE(one.stat().st_mode) for one in path.parent.iterdir()}


async def test_servers_take_turns(serve: Serve, api: Api, path: Path) -> None:
    """While one writes, the others wait; the file gets the messages of all, and stays complete when one ends."""
    shared = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys, "gathered_file": path}
    others = [await serve(behind_nginx=True, **shared) for _ in range(2)]
    everyone = [api, *others]
    token = await Sender(api).token()
    for number in range(12):
        await Sender(everyone[number % 3]).send(token, str(number))
    await until(lambda: len(read(path)) == 12)

    await Sender(api).send(token, "at the last moment")
    await api.client.close()
    await Sender(others[0]).send(token, "after that")

    await until(lambda: len(read(path)) == 14)
    assert [*map(str, range(12)), "at the last moment", "after that"] == messages(path)
    assert list(range(1, 15)) == [line["sequence"] for line in read(path)]


async def test_a_waiting_server_is_cheap(serve: Serve, api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tries the lock a few times a second, even if it has stored messages that another server writes."""
    waiting = await serve(
        behind_nginx=True, mongo_database=api.settings.mongo_database, keys=api.settings.keys, gathered_file=path
    )
    token = await Sender(api).token()
    await Sender(api).send(token, "one")
    await until(lambda: len(read(path)) == 1)
    looks = 0
    take = DumpLock.take

    def counted(lock: DumpLock) -> bool:
        nonlocal looks
        taken = take(lock)
        looks += not taken
        return taken

    await Sender(waiting).send(token, "two")
    monkeypatch.setattr(DumpLock, "take", counted)
    began = time.monotonic()
    while looks < 5:
        await asyncio.sleep(0.01)

    assert time.monotonic() - began > 3 * LOCK_POLL_SECONDS
    await until(lambda: len(read(path)) == 2)


async def test_a_lone_server_dumps_everything_before_it_ends(api: Api, path: Path) -> None:
    """Stopping waits until stored messages are dumped."""
    sender = Sender(api)
    token = await sender.token()
    await asyncio.gather(*(sender.send(token, str(number)) for number in range(50)))

    await api.client.close()

    assert list(range(1, 51)) == [line["sequence"] for line in read(path)]


async def test_a_server_that_ends_early_dumps_everything(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is told to stop tries the lock, and writes."""
    monkeypatch.setattr("src.gatherer.dump.writer.READY_POLL_SECONDS", 1000)
    api = await serve(behind_nginx=True, gathered_file=path)
    sender = Sender(api)
    await sender.send(await sender.token(), "in haste")

    await api.client.close()

    assert ["in haste"] == messages(path)


async def test_the_dump_resumes_after_a_pause(serve: Serve, api: Api, path: Path) -> None:
    """Messages stored in between follow; expired and undecryptable ones do not stop it."""
    sender = Sender(api)
    token = await sender.token()
    await sender.send(token, "dumped")
    await api.client.close()
    same = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys}
    silent = Sender(await serve(behind_nginx=True, **same))
    leaver = Sender(silent.api, username="leaver")
    for number in range(6):
        await silent.send(token, f"in between {number}")
    await leaver.send(await leaver.token(), "of a deleted account")
    collection = silent.api.mongo.collection("gathered")
    third, fourth, fifth = [one["_id"] for one in await collection.find().sort("_id", 1).skip(2).limit(3).to_list(None)]
    await collection.update_one({"_id": third}, {"$set": {"envelope": b"nonsense"}})
    await collection.delete_one({"_id": fourth})
    await collection.update_one({"_id": fifth}, {"$set": {"expires_at": utc_now() - timedelta(seconds=1)}})
    await collection.insert_one({**(await collection.find_one()), "_id": b"\xff" * 16, "batch_index": [b"x"]})
    session = (await silent.api.login("leaver"))["access_token"]
    assert 204 == (await silent.api.call("DELETE", "/me", {"password": PASSWORD}, token=session))[0]

    with capture_logs() as entries:
        await serve(**same, gathered_file=path)
        await until(lambda: len(read(path)) == 4)

    assert ["dumped", "in between 0", "in between 4", "in between 5"] == messages(path)
    assert [third.hex()] == [entry["id"] for entry in entries if "cannot be decrypted" in entry["event"]]


async def test_a_delivery_under_a_missing_key_is_skipped(serve: Serve, api: Api, path: Path) -> None:
    """The log names it, and the others follow."""
    first, second = Sender(api), Sender(api, username="web-2")
    await first.send(await first.token(), "one")
    await until(lambda: len(read(path)) == 1)
    await api.mongo.collection("gathered").update_one({}, {"$set": {"key_id": "gone"}})
    await api.client.close()
    path.with_name(f"{path.name}.state").unlink()

    with capture_logs() as entries:
        again = await serve(
            behind_nginx=True,
            mongo_database=api.settings.mongo_database,
            keys=api.settings.keys,
            gathered_file=path,
        )
        second = Sender(again, username="web-2")
        await second.send(await second.token(), "two")
        await until(lambda: path.exists() and "two" in path.read_text())

    assert 1 == len(path.read_text().splitlines())
    assert ["one", "two"] == messages(path)
    assert [(1).to_bytes(8, "big").hex()] == [
        entry["id"] for entry in entries if "cannot be decrypted" in entry["event"]
    ]


async def test_other_programs_may_rotate_it_at_any_time(api: Api, path: Path) -> None:
    """A renamed or removed file is replaced by a new one; a rename loses no line."""
    sender = Sender(api)
    token = await sender.token()
    for number in range(8):
        await sender.send(token, str(number))
        if number % 3 == 2:
            await until(path.exists)
            path.rename(path.with_name(f"{path.name}.2026-{number}"))

    await until(lambda: len(read(path)) == 8)
    assert list(map(str, range(8))) == messages(path)


async def test_a_restored_database_is_followed(serve: Serve, api: Api, path: Path) -> None:
    """After an older backup is restored, new messages are appended to the existing dump."""
    sender = Sender(api)
    token = await sender.token()
    for number in range(5):
        await sender.send(token, str(number))
    await until(lambda: len(read(path)) == 5)
    await api.client.close()
    silent = await serve(behind_nginx=True, mongo_database=api.settings.mongo_database, keys=api.settings.keys)
    await silent.mongo.collection("gathered").delete_many({"_id": {"$gt": (2).to_bytes(8, "big")}})
    await silent.mongo.collection("gathered_counters").update_one({"_id": b"total"}, {"$set": {"position": 2}})

    with capture_logs() as entries:
        again = await serve(
            behind_nginx=True, mongo_database=api.settings.mongo_database, keys=api.settings.keys, gathered_file=path
        )
        await Sender(again).send(token, "after the restoration")
        await until(lambda: len(read(path)) == 6)

    assert [*map(str, range(5)), "after the restoration"] == messages(path)
    assert any("database is older" in entry["event"] for entry in entries)


async def test_the_dump_survives_database_errors(api: Api, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It resumes as soon as the database answers; an unexpected error is logged and does not end it."""
    page, errors = Export.page, [Unavailable(), ValueError("s3cret")]

    async def failing(self: Export, *arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return await page(self, *arguments)

    monkeypatch.setattr(Export, "page", failing)
    sender = Sender(api)
    with capture_logs() as entries:
        await sender.send(await sender.token(), "one")
        await until(lambda: path.exists() and len(read(path)) == 1)

    assert [] == errors
    assert "s3cret" not in str(entries)
    assert ("ValueError", "Dump") in [(entry.get("error"), entry.get("work")) for entry in entries]


async def test_the_dump_can_be_switched_off(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written, and messages are gathered as usual."""
    monkeypatch.chdir(tmp_path)
    api = await serve(behind_nginx=True, gathered_file="off")
    sender = Sender(api)

    await sender.send(await sender.token(), "one")

    assert (200, {"status": "ready"}) == await api.call("GET", "/readyz")
    await api.client.close()
    assert [] == list(tmp_path.iterdir())


class Disk:
    """A small file system; `fill` leaves no space, and `free` releases it."""

    def __init__(self, directory: Path, *, mounted: bool) -> None:
        self.directory = directory
        self._mounted = mounted

    @property
    def error(self) -> str:
        """The message of the operating system for it."""
        return "ENOSPC" if self._mounted else "EFBIG"

    def fill(self) -> None:
        """Fill the disk."""
        if not self._mounted:
            size = max((one.stat().st_size for one in self.directory.rglob("*")), default=0)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, resource.RLIM_INFINITY))
            return
        with (self.directory / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(1024)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        """Free the space."""
        if self._mounted:
            (self.directory / "filler").unlink()
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture
def disk() -> Iterator[Disk]:
    """A small file system, or a limit on the file size if mounting is not permitted."""
    with tempfile.TemporaryDirectory() as name:
        mounting = ["mount", "-t", "tmpfs", "-o", "size=256k,mode=0700", "tmpfs", name]
        mounted = subprocess.run(mounting, capture_output=True, check=False).returncode == 0
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            yield Disk(Path(name), mounted=mounted)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            if mounted:
                subprocess.run(["umount", "-l", name], check=True)


async def test_a_full_disk_loses_nothing(serve: Serve, disk: Disk) -> None:
    """It is logged once and shown in every worker's `/readyz`; requests are served, and no line is lost."""
    path = disk.directory / "gathered.jsonl"
    api = await serve(behind_nginx=True, gathered_file=path)
    other = await serve(
        behind_nginx=True, mongo_database=api.settings.mongo_database, keys=api.settings.keys, gathered_file=path
    )
    sender = Sender(api)
    token = await sender.token()
    expected = ["while there is room"]
    await sender.send(token, *expected)
    await until(lambda: path.exists() and len(read(path)) == 1)

    async def troubles() -> list[Any]:
        answers = [await one.call("GET", "/readyz") for one in (api, other)]

        assert {200} == {status for status, _ in answers}
        return [answer.get("dump") for _, answer in answers]

    async def stuck_writers() -> float:
        return sum([(await scrape(one)).total("sealpost_dump_stuck") for one in (api, other)])

    with capture_logs() as entries:
        disk.fill()
        began = utc_now()
        for number in range(20):
            expected.append(f"{number}: " + "x" * 2000)
            await sender.send(token, expected[-1])
        while not all(seen := await troubles()):
            await asyncio.sleep(0.05)
        await asyncio.sleep(2.5)  # time for some attempts that must not be logged
        still, stuck = await troubles(), await stuck_writers()
        disk.free()
        await until(lambda: len(read(path)) == len(expected))
        while any(await troubles()):
            await asyncio.sleep(0.05)

    assert expected == messages(path)
    assert seen == still
    assert [1, 0] == [stuck, await stuck_writers()]
    assert {os.strerror(getattr(errno, disk.error))} == {one["reason"] for one in seen}
    assert all(began - timedelta(seconds=1) <= datetime.fromisoformat(one["since"]) for one in seen)
    told = [(entry["event"], entry.get("error")) for entry in entries if entry["event"] in {CANNOT, AGAIN}]
    assert [(CANNOT, disk.error), (AGAIN, None)] == told


async def test_the_dump_never_fills_a_small_disk(serve: Serve, disk: Disk) -> None:
    """Rotation keeps it to a few files, however much is gathered, with the newest messages in order."""
    path = disk.directory / "gathered.jsonl"
    sender = Sender(await serve(behind_nginx=True, gathered_file=path, gathered_max_bytes=20_000, gathered_backups=3))
    token = await sender.token()
    sent = [f"{number}: " + "x" * 4000 for number in range(120)]
    with capture_logs() as entries:
        for text in sent:
            await sender.send(token, text)
        await until(lambda: path.exists() and bool(messages(path)) and messages(path)[-1] == sent[-1])
        sizes = found(lambda: [one.stat().st_size for one in files(path)])

    kept = messages(path)
    assert sent[-len(kept) :] == kept
    assert 4 == len(sizes)
    assert sum(sizes) < 4 * 25_000
    assert CANNOT not in [entry["event"] for entry in entries]


async def test_an_unwritable_directory_is_reported(serve: Serve, tmp_path: Path) -> None:
    """If even the lock cannot be created, each worker notices by itself, and the dump starts once it can be."""
    blocked = tmp_path / "logs"
    blocked.write_text("a file where a directory should be")
    with capture_logs() as entries:
        api = await serve(behind_nginx=True, gathered_file=blocked / "gathered.jsonl")
        sender = Sender(api)
        await sender.send(await sender.token(), "one")
        while "dump" not in (await api.call("GET", "/readyz"))[1]:
            await asyncio.sleep(0.02)
        blocked.unlink()
        await until(lambda: (blocked / "gathered.jsonl").exists() and len(read(blocked / "gathered.jsonl")) == 1)
        while "dump" in (await api.call("GET", "/readyz"))[1]:
            await asyncio.sleep(0.02)

    assert [CANNOT, AGAIN] == [entry["event"] for entry in entries if entry["event"] in {CANNOT, AGAIN}]


class Writers:
    """Processes that dump one database to one file, and messages for them."""

    def __init__(self, api: Api, url: str, path: Path) -> None:
        assert api.settings.keys is not None
        keys = api.settings.keys.get_secret_value()
        ring, batching = KeyRing.parse(keys), group_commit(max_batch=50, max_queue=1000)
        self.path = path
        self._users = UserStore(api.mongo, ring, batching)
        life = timedelta(hours=1)
        self._bundles = BundleStore(api.mongo, ring, batching, Metrics.off(), life=life, patience=PATIENCE)
        self._environment = {
            "SEALPOST_MONGO_URL": url,
            "SEALPOST_KEYS": keys,
            "SEALPOST_MONGO_DATABASE": api.settings.mongo_database,
            "SEALPOST_GATHERED_MAX_BYTES": "40000",
            "SEALPOST_GATHERED_BACKUPS": "1000000",
        }
        self.stored: dict[str, list[str]] = {}

    def lines(self) -> int:
        """Count the lines of the dump."""
        return found(lambda: sum(one.read_bytes().count(b"\n") for one in files(self.path)))

    def set_aside(self) -> bool:
        """Rename the file; return False if it was missing, because a writer may have renamed it."""
        with suppress(FileNotFoundError):
            self.path.rename(self.path.with_name(f"{self.path.name}.2000-01-01"))
            return True
        return False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[programs.Process]:
        """Run a process, and end it with the block."""
        program = ("-m", "tests.dumper", str(self.path))
        async with programs.running(*program, environment=self._environment, stdout=DEVNULL, stderr=STDERR) as process:
            yield process

    async def holder(self, processes: Sequence[programs.Process]) -> programs.Process:
        """Return the process that holds the lock."""
        inode = self.path.with_name(f"{self.path.name}.lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5].endswith(f":{inode}"):
                return next((one for one in processes if one.pid == int(fields[4])), processes[0])
        return processes[0]

    async def store(self, sender: str, stopping: asyncio.Event) -> None:
        """Store messages until told to stop."""
        user = await self._users.add(UserContent(username=sender))
        assert user
        self.stored[sender] = []
        while not stopping.is_set():
            count = len(self.stored[sender])
            texts = [f"{sender} {count + number} " + "y" * (count * 7 % 200) for number in range(5)]
            await self._bundles.add(user.user_id, texts, None)
            self.stored[sender] += texts
            await asyncio.sleep(0.01)


@pytest.mark.lifecycle
async def test_killed_writers_lose_and_duplicate_nothing(api: Api, mongo_url: str, tmp_path: Path) -> None:
    """With 3 processes killed or paused while messages arrive, each line is written once, in order."""
    choose = random.Random()  # noqa: S311 (which moments is no secret)
    writers = Writers(api, mongo_url, tmp_path / "other" / "gathered.jsonl")
    stopping = asyncio.Event()
    storing = [asyncio.create_task(writers.store(f"web-{number}", stopping)) for number in range(3)]
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(writers.running()) for _ in range(3)]
        await until(writers.path.exists)
        for number in range(6):
            await asyncio.sleep(choose.random() * 0.4)
            victim = await writers.holder(processes)
            if choose.random() < 0.5:
                victim.send_signal(signal.SIGSTOP)
                await asyncio.sleep(choose.random() * 0.2)
            victim.kill()
            await victim.wait()
            processes.remove(victim)
            processes.append(await stack.enter_async_context(writers.running()))
            if number == 3:
                await until(writers.set_aside)
            await grown(writers.path)
        stopping.set()
        await asyncio.gather(*storing)
        total = sum(map(len, writers.stored.values()))
        await until(lambda: len(list(writers.path.parent.glob("gathered.jsonl*"))) > 2)
        await until(lambda: writers.lines() >= total)

    lines = [json.loads(line) for one in files(writers.path) for line in one.read_text().splitlines()]
    assert total == len(lines)
    for sender, texts in writers.stored.items():
        mine = [(line["sequence"], line["message"]) for line in lines if line["username"] == sender]
        assert sorted(mine) == list(enumerate(texts, start=1))
    in_order = [json.loads(line) for one in by_time(writers.path) for line in one.read_text().splitlines()]
    for sender in writers.stored:
        numbers = [line["sequence"] for line in in_order if line["username"] == sender]
        assert sorted(numbers) == numbers


async def grown(path: Path) -> None:
    """Wait until the dump has grown."""

    def size() -> int:
        return found(lambda: sum(one.stat().st_size for one in files(path)))

    before = size()
    await until(lambda: size() > before)


def files(path: Path) -> list[Path]:
    """Return the files of a dump."""
    return [one for one in path.parent.iterdir() if one == path or one.name.startswith(f"{path.name}.2")]


def by_time(path: Path) -> list[Path]:
    """Return the files of a dump, ordered by the time of their first line."""
    with_lines = [one for one in files(path) if one.stat().st_size]
    return sorted(with_lines, key=lambda one: json.loads(one.read_text().partition("\n")[0])["received_at"])
