"""A process with a wrong clock does not use the database, and lifetimes follow MongoDB's clock."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from src.app import MONGO, build_app
from src.core import clock
from src.core.clock import UNEXPIRED
from src.core.database.mongo import Mongo, Prerequisite
from src.core.database.prerequisites import MOST_APART, ClockCheck
from src.sealed.items import waiting
from src.settings import Settings

from .commands import Operator
from .conftest import PASSWORD, Api, clocks_settle
from .processes import PATIENCE
from .senders import Sender
from .test_key_checks import documents
from .test_metrics import scrape
from .test_posts import publish

Serve = Callable[..., Awaitable[Api]]
SetClock = Callable[[timedelta], None]
DAYS = timedelta(days=8)


@pytest.fixture
async def set_clock(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SetClock]:
    """Set this process's clock ahead of MongoDB's by a time span, or behind it."""
    ahead = timedelta(0)
    checks, check = 0, Mongo.check

    async def counted(mongo: Mongo, prerequisite: Prerequisite) -> None:
        nonlocal checks
        checks += 1
        try:
            await check(mongo, prerequisite)
        finally:
            checks -= 1

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) + ahead

    def set_clock(by: timedelta) -> None:
        nonlocal ahead
        ahead = by

    monkeypatch.setattr(clock, "datetime", Clock)
    monkeypatch.setattr(Mongo, "check", counted)
    yield set_clock
    ahead = timedelta(0)
    # A shared server may just have read the wrong clock, and would only then refuse the requests of the next test.
    async with asyncio.timeout(PATIENCE):
        while checks:
            await asyncio.sleep(0.01)
    await clocks_settle()


@asynccontextmanager
async def started(settings: Settings, url: str) -> AsyncIterator[Api]:
    """Start a process and wait for the result of its clock check."""
    app = await build_app(settings, url)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(PATIENCE):
        while app[MONGO].unfit is None and not app[MONGO].is_set_up:
            await asyncio.sleep(0.01)
        yield Api(client, app[MONGO], settings)


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (DAYS, "ahead of"),
        (-DAYS, "behind"),
        (timedelta(seconds=6), "ahead of"),
        (timedelta(seconds=-6), "behind"),
    ],
)
async def test_a_process_with_a_wrong_clock_writes_nothing(
    serve: Serve, mongo_url: str, set_clock: SetClock, ahead: timedelta, said: str
) -> None:
    """It is not ready, reports its offset, rejects every request, and leaves the database unchanged."""
    api = await serve(audit_ttl=0)  # the other process would store its events meanwhile
    await api.register("ann")
    created = await api.create("kept")
    before = await documents(api)

    set_clock(ahead)
    async with started(api.settings, mongo_url) as other:
        ready, problem = await other.call("GET", "/readyz")
        refused = {
            (await other.call(method, path, body))[0]
            for method, path, body in [
                ("POST", "/generate", {"secret": "s"}),
                ("POST", f"/secrets/{created['secret_key']}", None),
                ("GET", f"/receipts/{created['receipt_key']}", None),
                ("POST", "/login", {"username": "ann", "password": PASSWORD}),
                ("POST", "/delete", None),
            ]
        }
        alive, _ = await other.call("GET", "/healthz")
        offset = (await scrape(other)).total("sealpost_clock_offset_seconds")

    assert (503, 200, {503}) == (ready, alive, refused)
    assert f" {abs(offset):.1f} s {said}" in problem["detail"]
    assert "NTP" in problem["detail"]
    # Half of the time that the fastest of a few commands takes.
    assert ahead.total_seconds() == pytest.approx(offset, abs=2)
    assert before == await documents(api)


async def test_a_small_clock_offset_is_accepted(serve: Serve, mongo_url: str, set_clock: SetClock) -> None:
    """Up to 5 s are accepted."""
    api = await serve()
    for seconds in (-4, 4):
        set_clock(timedelta(seconds=seconds))
        async with started(api.settings, mongo_url) as other:
            assert 200 == (await other.call("GET", "/readyz"))[0]


async def test_a_running_process_notices_that_its_clock_was_set(serve: Serve, set_clock: SetClock) -> None:
    """It stops serving within seconds, and resumes once the clock is right."""
    api = await serve()

    async def wait_for(status: int) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await api.call("GET", "/readyz"))[0] != status:
                await asyncio.sleep(0.05)

    set_clock(DAYS)
    await wait_for(503)
    refused = await api.call("POST", "/delete")
    set_clock(timedelta(0))
    await wait_for(200)

    assert 503 == refused[0]
    assert 201 == (await api.call("POST", "/generate", {"secret": "s"}))[0]


async def test_a_clock_that_is_set_during_a_comparison_is_noticed(
    api: Api, mongo_url: str, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MongoDB's time stays right, and the clocks are compared again."""
    mongo = Mongo(api.settings, mongo_url)
    check = ClockCheck(mongo)

    for before, after in [(4, 0), (0, 4), (-4, 4)]:
        set_clock(timedelta(seconds=before))
        with monkeypatch.context() as patch:

            def set_and_adjust(*reading: Any, adjust: Any = mongo.clock.adjust, after: int = after) -> None:
                set_clock(timedelta(seconds=after))
                adjust(*reading)

            patch.setattr(mongo.clock, "adjust", set_and_adjust)
            await check.require()

        assert abs(mongo.clock.now() - datetime.now(UTC)) < timedelta(seconds=2)
        assert check.is_due

    await mongo.close()


async def test_commands_refuse_a_wrong_clock(serve: Serve, mongo_url: str) -> None:
    """On a host that is 8 days ahead, `manage purge` deletes nothing and exits with 1."""
    api = await serve()
    await api.create("kept")
    script = (
        "import sys\n"
        "from datetime import datetime, timedelta\n"
        "from src.core import clock\n"
        "class Clock(datetime):\n"
        "    @classmethod\n"
        "    def now(cls, tz=None):\n"
        "        return datetime.now(tz) + timedelta(days=8)\n"
        "clock.datetime = Clock\n"
        "from src.manage.__main__ import main\n"
        "sys.exit(main())\n"
    )

    ended = await replace(Operator.of(api.settings, mongo_url), script=script).run("purge")

    assert (1, "") == (ended.code, ended.stdout)
    told = re.search(r"clock is ([\d.]+) s ahead of MongoDB's", ended.stderr)
    assert told
    assert DAYS.total_seconds() == pytest.approx(float(told[1]), abs=2)
    assert 1 == await api.items.count_documents({})


@pytest.mark.parametrize("ahead", [-DAYS, timedelta(seconds=-4), timedelta(seconds=4), DAYS])
async def test_lifetimes_follow_the_clock_of_mongodb(
    serve: Serve, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    """A process with another clock serves nothing expired, and neither hides nor deletes anything else."""
    monkeypatch.setattr(ClockCheck, "is_due", False)
    api = await serve()
    set_clock(ahead)
    if abs(ahead) < MOST_APART:
        await ClockCheck(api.mongo).require()
    await api.register("ann")
    token = (await api.login("ann"))["access_token"]
    items: dict[bool, list[Any]] = {}
    posts: dict[bool, Any] = {}
    for lasting, ttl in ((True, {"minutes": 1}), (False, {"seconds": 1})):
        phrases = (None, "right")
        items[lasting] = [await api.create("text", ttl=ttl, **({"phrase": one} if one else {})) for one in phrases]
        items[lasting].append((await api.call("POST", "/", {"message": "text", "ttl": ttl}))[1])
        posts[lasting] = await publish(api, token, ttl=ttl)
    ends = [datetime.fromisoformat(one["expires_at"]) for one in items[False]]

    assert max(ends) < datetime.now(UTC) + timedelta(seconds=1.1)
    end = max(*ends, datetime.fromisoformat(posts[False]["expires_at"]))
    # The server's view of MongoDB's clock may be milliseconds behind.
    while min(datetime.now(UTC), api.mongo.clock.now()) <= end:
        await asyncio.sleep(0.05)

    async def statuses(lasting: bool) -> set[int]:
        plain, phrased, message = items[lasting]
        return {
            status
            for status, _ in [
                await api.call("GET", f"/secrets/{plain['secret_key']}"),
                await api.call("GET", f"/message/{message['url'].rpartition('/')[2]}"),
                await api.call("GET", f"/posts/{posts[lasting]['id']}", token=token),
                await api.call("PUT", f"/posts/{posts[lasting]['id']}/like", token=token),
                await api.open(phrased["secret_key"], phrase="right"),
                await api.open(plain["secret_key"]),
            ]
        }

    states = {lasting: {await api.state(one["receipt_key"]) for one in items[lasting]} for lasting in items}
    await api.call("POST", "/delete")
    left = {one["_id"] for one in await api.items.find({}).to_list(None)}
    _, feed = await api.call("GET", "/posts", token=token)

    assert {True: {"waiting"}, False: {"expired"}} == states
    assert 3 == len(left)
    assert [posts[True]["id"]] == [post["id"] for post in feed["posts"]]
    assert {200} == await statuses(True)
    assert {404} == await statuses(False)


@pytest.mark.parametrize("ahead", [-DAYS, DAYS])
async def test_credentials_expire_by_the_clock_of_mongodb(
    serve: Serve, set_clock: SetClock, monkeypatch: pytest.MonkeyPatch, ahead: timedelta
) -> None:
    """Sessions, API tokens and senders of a process whose clock was set expire exactly on time."""
    monkeypatch.setattr(ClockCheck, "is_due", False)
    api = await serve(anonymous_create=False)
    token = await api.sign_up("ann")
    kept, ended = [await api.login("ann") for _ in range(2)]
    _, created = await api.call(
        "POST", "/tokens", {"name": "t", "scopes": ["secrets"], "expires_in_days": 1}, token=token
    )
    sender = Sender(api)
    past = datetime.now(UTC) - timedelta(seconds=1)
    sessions = api.mongo.collection("sessions")
    newest = await sessions.find_one({}, sort=[("created_at", -1)])
    await sessions.update_one({"_id": newest["_id"]}, {"$set": {"expires_at": past}})

    set_clock(ahead)
    refreshed = [
        (await api.call("POST", "/refresh", {"refresh_token": one["refresh_token"]}))[0] for one in (kept, ended)
    ]
    stored, _ = await api.call("POST", "/generate", {"secret": "s"}, token=created["token"])
    sent = [(await sender.identify())[0], (await sender.authenticate())[0]]

    assert [200, 401] == refreshed
    assert 201 == stored
    assert [201, 201] == sent


async def test_no_query_by_the_clock_scans_a_collection(api: Api) -> None:
    """Every comparison with MongoDB's clock uses an index."""
    await api.sign_up()
    await api.create()
    user = await api.mongo.collection("users").find_one()
    now = api.mongo.clock.now()
    queries: list[tuple[str, dict[str, Any]]] = [
        ("items", waiting([bytes(16)])),
        ("sessions", {"_id": bytes(16), "ended_at": None, **UNEXPIRED}),
        ("sessions", {"user_id": user["_id"], "ended_at": None, **UNEXPIRED}),
        ("gathered_states", {"_id": {"$in": [bytes(16)]}, **UNEXPIRED}),
        ("gathered_states", {"pair_index": {"$in": [bytes(32)]}, **UNEXPIRED}),
        ("items", {"delete_at": {"$lte": now}}),
    ]
    for collection, query in queries:
        plan = await api.mongo.database.command(
            {"explain": {"find": collection, "filter": query}, "verbosity": "queryPlanner"}
        )

        assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"]), query
        assert "COLLSCAN" not in str(plan["queryPlanner"]["winningPlan"]), query
