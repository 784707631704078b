"""Storage limits: the limit of the service, and the byte budget of each client."""

import asyncio
import json
import os
import random
import re
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.errors import OperationFailure

from src.core.crypto.keys import read_key_ring
from src.core.database import limits, storage_budget
from src.core.database.limits import ByteBudget
from src.core.database.storage_budget import (
    LEAST_RESERVE,
    MIB,
    MOST_RESERVE,
    PAUSE_ROOM,
    RESUME_ROOM,
    SHARES,
    Disk,
    StorageBudget,
    StorageFigures,
)
from src.core.metrics import Metrics
from src.errors import StorageFull
from src.manage.doctor.examination import Status
from src.manage.doctor.mongodb import judge_storage
from src.settings import Settings, SettingsError, parse_byte_limit, read_settings
from src.storage_limits import create_byte_budget

from .conftest import Api
from .processes import PATIENCE
from .test_registration import operator_of

Serve = Callable[..., Awaitable[Api]]

MAX = 128 * MIB
STORED_NOTHING_NEW = {
    "POST /login/code": "starts a session, and expires",
    "POST /login/codes": "stores nothing",
    "POST /login/passkey": "starts a session, and expires",
    "POST /login/passkey/options": "stores nothing",
    "POST /passkeys/options": "stores nothing",
    "POST /login": "a session; signing in goes on while storage is full",
    "POST /refresh": "changes a session",
    "POST /echo": "stores nothing",
    "POST /logout": "ends a session",
    "POST /delete": "deletes",
    "POST /secrets/{secret_key}": "opening replaces a secret by less",
    "POST /secrets/{secret_key}/received": "ends a hold",
    "POST /authenticate": "changes what /identify has stored",
    "PUT /me/password": "changes an account",
}
"""Requests other than GET and DELETE that are accepted while storage is full, with the reason."""


async def operations(api: Api) -> dict[str, dict[str, Any]]:
    """Return the OpenAPI description of each operation."""
    document = (await api.send("GET", "/openapi.json")).json()
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


async def fill(api: Api) -> Any:
    """Store until creation pauses, and return the ids."""
    collection = api.mongo.collection("items")
    documents = [{"_id": os.urandom(16), "envelope": os.urandom(MIB)} for _ in range((MAX - PAUSE_ROOM) // MIB + 1)]
    await collection.insert_many(documents)
    await until(api, "paused")
    return [document["_id"] for document in documents]


async def until(api: Api, creating: str | None) -> None:
    """Wait until the service reports this state of creation."""
    async with asyncio.timeout(PATIENCE):
        while (answer := (await api.send("GET", "/readyz")).json()).get("creating") != creating:
            assert answer["status"] == "ready"
            await asyncio.sleep(0.05)


async def test_every_route_that_creates_is_declared(api: Api) -> None:
    """Every request that may write is either rejected while storage is full, or creates nothing."""
    changing = {name: operation for name, operation in (await operations(api)).items() if name[:3] in {"POS", "PUT"}}
    storing = {name for name, operation in changing.items() if "507" in operation["responses"]}

    assert set(changing) - storing == STORED_NOTHING_NEW.keys()


async def test_creation_pauses_at_the_maximum_and_everything_else_works(serve: Serve) -> None:
    """Declared routes answer 507 without reading the body; other requests work; creation resumes after deletions."""
    api = await serve(storage_max=MAX)
    await api.register()
    token = await operator_of(api)
    secret = await api.create()
    burned = await api.create("to be burned")
    _, message = await api.call("POST", "/", {"message": "hello"})
    _, post = await api.call("POST", "/posts", {"content": "a post"}, token=token)
    ids = await fill(api)

    refused = [name for name, operation in (await operations(api)).items() if "507" in operation["responses"]]
    for name in refused:
        method, path = name.split(" ")
        path = path.replace("{post_id}", post["id"]).replace("{upload_key}", "k" * 43)
        # The body is no JSON: it has not been read.
        answer = await api.send(method, path, b"nonsense", Authorization=f"Bearer {token}")

        assert (507, "storage_full") == (answer.status, answer.json()["code"]), name
        assert StorageFull.default == answer.json()["detail"]
    assert (200, "a secret") == ((opened := await api.open(secret["secret_key"]))[0], opened[1]["secret"])
    assert 200 == (await api.call("GET", "/message/" + message["url"].rpartition("/")[2]))[0]
    assert 204 == (await api.call("DELETE", f"/receipts/{burned['receipt_key']}"))[0]
    assert 204 == (await api.call("DELETE", f"/posts/{post['id']}", token=token))[0]
    refresh = (await api.login())["refresh_token"]
    assert 200 == (await api.call("POST", "/refresh", {"refresh_token": refresh}))[0]

    # One document less is not enough to resume: creation would pause again at once.
    await api.items.delete_one({"_id": ids.pop()})
    await asyncio.sleep(1.5 * storage_budget.NEAR_SECONDS)
    assert "paused" == (await api.send("GET", "/readyz")).json()["creating"]
    await api.items.delete_many({"_id": {"$in": ids}})
    await until(api, None)
    await api.create()


async def test_a_paused_service_says_so_in_its_metrics(serve: Serve) -> None:
    """The metrics have the bytes, the limit, the pause and the rejected requests."""
    api = await serve(storage_max=MAX)
    await fill(api)
    await api.send("POST", "/generate", b"{}")

    told = (await api.send("GET", "/metrics")).body.decode()

    def value(name: str) -> float:
        return float(re.findall(rf"^{name}(?:{{.*}})? (\S+)$", told, re.MULTILINE)[0])

    assert MAX == value("sealpost_storage_max_bytes")
    assert MAX - PAUSE_ROOM < value("sealpost_storage_used_bytes") < MAX
    assert MAX - value("sealpost_storage_used_bytes") == value("sealpost_storage_room_bytes")
    assert 0 < value("sealpost_storage_reserve_bytes") <= MOST_RESERVE
    assert value("sealpost_storage_free_bytes") > 0
    assert 1 == value("sealpost_creating_paused")
    assert 1 == value("sealpost_storage_refusals_total")


def test_the_reserve_is_a_share_of_the_disk_within_bounds() -> None:
    """5 %, but at least 128 MiB and at most 1 GiB; or as configured."""
    assert [LEAST_RESERVE, 500 * MIB, MOST_RESERVE] == [
        Disk(total=total * MIB, free=0, reusable=0).reserve(None) for total in (700, 10_000, 100_000)
    ]
    assert 42 == Disk(total=10**12, free=0, reusable=0).reserve(42)


@pytest.mark.parametrize(
    ("disk", "room"),
    [
        (Disk(total=1000, free=300, reusable=0, oplog_growth=0, unwritten=0), 100),
        (Disk(total=1000, free=300, reusable=50, oplog_growth=0, unwritten=0), 125),
        (Disk(total=1000, free=300, reusable=1000, oplog_growth=0, unwritten=0), 200),
        (Disk(total=1000, free=300, reusable=0, oplog_growth=80, unwritten=20), 50),
        (Disk(total=1000, free=400, reusable=0), 100),
        (Disk(total=1000, free=50, reusable=1000, oplog_growth=0, unwritten=0), -50),
    ],
    ids=[
        "journal and data",
        "reusable space",
        "reusable space for all",
        "oplog and memory",
        "oplog unknown",
        "no room",
    ],
)
def test_room_counts_each_copy_of_a_byte(disk: Disk, room: int) -> None:
    """A byte goes to the journal, to a data file unless it reuses space there, and perhaps to the oplog."""
    assert room == disk.room(100, margin=0)


@pytest.mark.parametrize("figures", [{"oplog_growth": 0, "unwritten": 0}, {}])
def test_deleting_frees_space_on_a_full_disk(figures: dict[str, int]) -> None:
    """Creation pauses while the journal still has space, so reusable space in data files is enough to resume."""
    free = next(
        free
        for free in range(1024 * MIB, 0, -MIB)
        if Disk(total=0, free=free, reusable=0, **figures).room(0) < PAUSE_ROOM
    )

    assert RESUME_ROOM <= Disk(total=0, free=free, reusable=256 * MIB, **figures).room(0)


class FakeDisk:
    """A MongoDB that reports a stored byte with a delay."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.looks = 0

    async def figures(self, _: object) -> StorageFigures:
        self.looks += 1
        await asyncio.sleep(0)
        return StorageFigures(0, (Disk(total=0, free=self.free, reusable=10**15, oplog_growth=0, unwritten=0),))


@pytest.fixture
def make_budget(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeDisk], StorageBudget]:
    """Create the budgets of processes that share a disk."""
    mongo: Any = SimpleNamespace(is_set_up=True)
    read = storage_budget.read_storage_figures

    def make(disk: FakeDisk) -> StorageBudget:
        # Not for the servers of other tests, which read their figures meanwhile, and would pause.
        async def figures(asked: Any) -> StorageFigures:
            return await (disk.figures(asked) if asked is mongo else read(asked))

        monkeypatch.setattr(storage_budget, "read_storage_figures", figures)
        settings = Settings(_env_file=None, storage_reserve=LEAST_RESERVE)
        return StorageBudget(mongo, settings, Metrics.off())

    return make


async def _store_until_paused(disk: FakeDisk, budget: StorageBudget, seconds: Callable[[], float]) -> None:
    while True:
        try:
            async with budget.storing(MIB):
                # The bytes are on the disk only after other processes have read its size.
                await asyncio.sleep(seconds())
                disk.free -= MIB
        except StorageFull:
            return


@pytest.mark.parametrize("most_seconds", [0, 0.001, 0.02])
async def test_many_processes_together_stay_within_the_room(
    make_budget: Callable[[FakeDisk], StorageBudget], most_seconds: float
) -> None:
    """Whatever 16 processes have in flight, and however long it takes, they pause before they use the reserve."""
    disk = FakeDisk(LEAST_RESERVE + 200 * MIB)
    budgets = [make_budget(disk) for _ in range(SHARES)]

    await asyncio.gather(
        *(
            _store_until_paused(disk, budget, lambda: random.uniform(0, most_seconds))  # noqa: S311
            for budget in budgets
            for _ in range(4)
        )
    )

    assert all(budget.is_paused for budget in budgets)
    assert LEAST_RESERVE < disk.free < LEAST_RESERVE + PAUSE_ROOM


async def test_processes_that_checked_long_ago_leave_the_reserve_alone(
    make_budget: Callable[[FakeDisk], StorageBudget],
) -> None:
    """What they may store without another check fits beside what others have stored since."""
    disk = FakeDisk(LEAST_RESERVE + 200 * MIB)
    early, late = ([make_budget(disk) for _ in range(SHARES // 2)] for _ in range(2))
    for budget in early:
        async with budget.storing(1):
            pass

    for budget in late + early:
        await _store_until_paused(disk, budget, lambda: 0)

    assert LEAST_RESERVE < disk.free


async def test_what_ends_during_a_check_counts_as_not_yet_stored(
    make_budget: Callable[[FakeDisk], StorageBudget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB's figures may be older than the end of a request, so they do not free its share."""
    disk = FakeDisk(LEAST_RESERVE + 64 * MIB)
    budget = make_budget(disk)
    reading, may_answer = asyncio.Event(), asyncio.Event()
    tell = disk.figures

    async def figures(mongo: object) -> StorageFigures:
        answer = await tell(mongo)
        reading.set()
        await may_answer.wait()
        return answer

    async with budget.storing(MIB):
        monkeypatch.setattr(disk, "figures", figures)
        monkeypatch.setattr(storage_budget, "NEAR_SECONDS", 0)
        check = asyncio.create_task(budget.watch())
        await reading.wait()
    may_answer.set()
    await check

    looks = disk.looks
    async with budget.storing(MIB):
        assert disk.looks > looks, "the share was used up, so another check was due"


async def test_creation_resumes_well_above_the_pause_threshold(
    make_budget: Callable[[FakeDisk], StorageBudget], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state is kept between the two thresholds, so that it does not flap."""
    monkeypatch.setattr(storage_budget, "NEAR_SECONDS", 0)
    disk = FakeDisk(LEAST_RESERVE + PAUSE_ROOM)
    budget = make_budget(disk)
    states = []
    for room in (PAUSE_ROOM, PAUSE_ROOM - 1, RESUME_ROOM - 1, RESUME_ROOM, PAUSE_ROOM):
        disk.free = LEAST_RESERVE + room
        await budget.watch()
        states.append(budget.is_paused)

    assert [False, True, True, False, False] == states


async def test_plenty_of_room_costs_no_commands(make_budget: Callable[[FakeDisk], StorageBudget]) -> None:
    """With gigabytes left, requests are accepted without asking MongoDB."""
    disk = FakeDisk(10**12)
    budget = make_budget(disk)
    for _ in range(1000):
        async with budget.storing(MIB):
            pass
        await budget.watch()

    assert 1 == disk.looks


async def test_a_user_without_dbstats_has_no_storage_limit(
    make_budget: Callable[[FakeDisk], StorageBudget], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is logged once, and requests are accepted."""
    disk = FakeDisk(0)

    async def refuse(_: object) -> StorageFigures:
        raise OperationFailure("not authorized", 13)

    disk.figures = refuse  # type: ignore[method-assign]
    budget = make_budget(disk)
    for _ in range(3):
        async with budget.storing(MIB):
            pass

    assert not budget.is_paused
    assert 1 == "".join(capsys.readouterr()).count("storage limits are off")


@pytest.mark.parametrize(
    ("figures", "mark", "found"),
    [
        (StorageFigures(10 * MIB, ()), Status.OK, "10 MiB of 200 MiB"),
        (StorageFigures(190 * MIB, ()), Status.FAILED, "190 MiB of 200 MiB"),
        (
            StorageFigures(10 * MIB, (Disk(10**10, 900 * MIB, 0, oplog_growth=0, unwritten=0),)),
            Status.WARNING,
            "can be stored",
        ),
        (
            StorageFigures(10 * MIB, (Disk(10**10, 10 * MIB, 0, oplog_growth=0, unwritten=0),)),
            Status.FAILED,
            "reserve of",
        ),
    ],
)
def test_the_doctor_reports_the_storage(figures: StorageFigures, mark: Status, found: str) -> None:
    """Above a limit is a failure, near it a warning, both with advice."""
    outcome = judge_storage(figures, Settings(_env_file=None, storage_max=200 * MIB))

    assert mark == outcome.status
    assert found in outcome.found
    assert bool(outcome.advice) == (mark is not Status.OK)


def test_a_maximum_under_which_nothing_could_be_stored_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the minimum."""
    monkeypatch.setenv("SEALPOST_STORAGE_MAX", "1000000")

    with pytest.raises(SettingsError, match="SEALPOST_STORAGE_MAX must be 0 or at least 134217728"):
        read_settings()


@pytest.mark.parametrize(
    ("text", "size", "seconds"),
    [
        ("100 MiB per 1 hour", 100 * MIB, 3600),
        ("1 GiB per 2 days", 1024 * MIB, 172_800),
        ("5000 bytes per 10 seconds", 5000, 10),
        ("64 KiB per 5 minutes", 65_536, 300),
    ],
)
def test_a_byte_limit_is_written_with_its_unit(text: str, size: int, seconds: int) -> None:
    """Bytes, KiB, MiB or GiB, per time span."""
    settings = Settings(_env_file=None, limit_create_bytes=text)
    maximum, window = parse_byte_limit(settings.limit_create_bytes)

    assert (size, seconds) == (maximum, window.total_seconds())


async def generate(api: Api, size: int, token: str = "") -> int:
    """Send a creation with a body of that many bytes, and return the status."""
    body = json.dumps({"secret": ""}).encode()
    body = body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await api.send("POST", "/generate", body, **headers)
    if answer.status == 429:
        assert "limit_reached" == answer.json()["code"]
        assert limits.SPENT == answer.json()["detail"]
        assert 0 < int(answer.headers["Retry-After"]) <= 3600
    return answer.status


async def test_the_byte_budget_of_an_address(serve: Serve) -> None:
    """Exactly its bytes, in any sizes; rejected and malformed requests do not count."""
    api = await serve(rate_limits="on", limit_create_bytes="10000 bytes per 1 hour")

    assert 201 == await generate(api, 6000)
    assert 429 == await generate(api, 4001)
    assert 400 == (await api.send("POST", "/generate", b"x" * 4000)).status
    assert 201 == await generate(api, 3000)
    assert 201 == await generate(api, 1000)
    assert 429 == await generate(api, 50)
    assert 429 == (await api.call("POST", "/", {"message": "of the same budget"}))[0]


async def test_an_account_has_a_budget_of_its_own(serve: Serve) -> None:
    """If a token is required, bytes count for the account, from any address."""
    api = await serve(rate_limits="on", anonymous_create=False, limit_create_bytes="1000 bytes per 1 hour")
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")

    assert 201 == await generate(api, 1000, ann)
    assert 429 == await generate(api, 100, ann)
    assert 429 == (await api.call("POST", "/posts", {"content": "a post"}, token=ann))[0]
    assert 201 == await generate(api, 1000, bob)


async def test_workers_count_together_and_mostly_without_commands(serve: Serve, own_database: str) -> None:
    """2 workers together stay within the budget, and small requests share a block."""
    shared = {"mongo_database": own_database, "rate_limits": "on", "limit_create_bytes": "100 KiB per 1 hour"}
    one = await serve(**shared)
    other = await serve(**shared, keys=one.settings.keys)

    statuses = await asyncio.gather(*(generate(api, 1000) for api in (one, other) for _ in range(70)))

    assert 100_000 < 1000 * statuses.count(201) <= 102_400


async def test_a_block_is_reserved_with_one_command(serve: Serve) -> None:
    """100 small requests cost one command on the counter."""
    api = await serve(rate_limits="on")
    for _ in range(100):
        assert 201 == await generate(api, 100)

    told = (await api.send("GET", "/metrics")).body.decode()

    found = re.search(r'duration_seconds_count{command="findAndModify",outcome="ok"} (\S+)', told)
    assert found
    assert 1 == float(found[1])


async def test_the_budget_comes_back_with_its_window(serve: Serve) -> None:
    """After Retry-After, exactly the same amount may be stored again."""
    api = await serve(rate_limits="on", limit_create_bytes="1000 bytes per 4 seconds")

    assert 201 == await generate(api, 900)
    async with asyncio.timeout(PATIENCE):
        while await generate(api, 900) == 429:
            await asyncio.sleep(0.05)
    assert 429 == await generate(api, 900)


async def test_few_subjects_are_remembered(monkeypatch: pytest.MonkeyPatch, serve: Serve) -> None:
    """Memory is bounded; a subject that was evicted continues with a new block."""
    monkeypatch.setattr(limits, "MOST_SUBJECTS", 2)
    api = await serve(rate_limits="on", limit_create_bytes="1000 bytes per 1 hour")
    budget: ByteBudget = create_byte_budget(api.settings, api.mongo, read_key_ring(api.settings), Metrics.off())
    for subject in ("a", "b", "c", "a"):
        await budget.spend(subject, 5)

    assert ["c", "a"] == list(budget._blocks)
