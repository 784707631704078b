"""Each metric counts what its name says, on a real MongoDB."""

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from pymongo.errors import OperationFailure

from src.api.edge import Edge
from src.api.origin import Origin
from src.core.clock import utc_now
from src.core.crypto.hashing import HashingPool
from src.core.database.group_commit import GroupCommit
from src.core.database.mongo import aggregate
from src.core.metrics import Metrics, process
from src.core.metrics.storage import Memory
from src.errors import Unavailable
from src.settings import Settings

from .conftest import PASSWORD, PYMONGO_LEAVES, Api
from .counts import Counts
from .processes import PATIENCE
from .senders import Sender, gathered, operator_token
from .test_metrics import scrape
from .test_posts import publish

Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def alone(serve: Serve, own_database: str) -> Api:
    """A server that deletes expired items only on request."""
    api = await serve(mongo_database=own_database)
    await api.items.drop_index("delete_at")
    return api


@pytest.fixture
async def api(serve: Serve) -> Api:
    """A server without any counts yet."""
    return await serve()


async def expire_all(api: Api) -> None:
    """Let all available items expire."""
    past = utc_now() - timedelta(seconds=1)
    await api.items.update_many({"state": "waiting"}, {"$set": {"delete_at": past, "expires_at": past}})


async def message(api: Api, text: str = "a message") -> tuple[str, str]:
    """Create a message, and return its path and receipt key."""
    _, created = await api.call("POST", "/", {"message": text})
    return f"/message/{created['url'].rpartition('/')[2]}", created["receipt_key"]


def item_events(counts: Counts) -> dict[str, dict[str, float]]:
    """Return the counts of items, by kind and event."""
    series = counts.series("sealpost_items_total")
    return {
        kind: {one.labels["event"]: one.value for one in series if one.labels["kind"] == kind}
        for kind in ("secret", "message")
    }


async def test_items_are_counted_by_event(alone: Api) -> None:
    """Each creation, opening, reading, burning and locking counts once, and failed requests do not."""
    api = alone
    thrice, locked, burned, expired = [
        await api.create(**fields)
        for fields in ({"max_opens": 3}, {"phrase": "right", "max_attempts": 2}, {}, {"phrase": "right"})
    ]
    (read, _), (_, burned_message), _ = [await message(api) for _ in range(3)]
    opened = [(await api.open(thrice["secret_key"]))[0] for _ in range(5)]
    failed = [(await api.open(locked["secret_key"], phrase="wrong"))[0] for _ in range(3)]
    got = [(await api.call("GET", read))[0] for _ in range(2)]
    for receipt_key in (burned["receipt_key"], burned["receipt_key"], burned_message):
        await api.call("DELETE", f"/receipts/{receipt_key}")
    await api.open(expired["secret_key"], phrase="right")
    await api.create()
    await expire_all(api)
    deleted = [await api.call("POST", "/delete") for _ in range(2)]

    assert [200, 200, 200, 404, 404] == opened
    assert [403, 403, 404] == failed
    assert [200, 200] == got
    assert [(200, {"deleted": 3}), (200, {"deleted": 0})] == deleted
    assert {
        "secret": {"created": 5, "opened": 4, "burned": 1, "locked": 1},
        "message": {"created": 3, "opened": 2, "burned": 1},
    } == item_events(await scrape(api))


async def test_gathered_messages_are_counted_when_they_are_stored(serve: Serve) -> None:
    """Once each, however often a batch is sent; messages tampered with in the database count as damaged."""
    api = await serve(behind_nginx=True, gathered_file="off")
    sender, operator = Sender(api), await operator_token(api)
    token = await sender.token()
    for _ in range(3):
        await sender.send(token, "one", "two", batch="the same")
    await sender.message(token, messages=["three"], batch="the same")
    await sender.send(token, "three")
    stored = await scrape(api)
    await api.mongo.collection("gathered").update_many({}, {"$set": {"envelope": bytes(100)}})
    left = await gathered(api, operator)

    assert 3 == stored.total("sealpost_gathered_messages_total")
    assert ([], 2) == (left, (await scrape(api)).total("sealpost_damaged_total"))


async def test_batches_of_parallel_requests_are_counted(api: Api) -> None:
    """Batches contain each request once, and in the end the queue is empty."""
    await asyncio.gather(*(api.create() for _ in range(60)))
    counts = await scrape(api)

    assert 60 == counts.total("sealpost_batch_requests_sum", command="insert_items")
    assert 1 <= counts.total("sealpost_batch_requests_count", command="insert_items") < 60
    assert 0 == counts.total("sealpost_batch_queue_depth")
    assert {
        *("insert_items", "find_items", "look_at_items", "claim_items", "find_users", "find_api_tokens"),
        *("find_item_histories", "count_late_attempts", "hold_items", "release_items"),
        *("note_activity", "insert_posts", "find_posts", "change_reactions", "store_gathered", "find_sender_states"),
    } == counts.values("sealpost_batch_queue_depth", "command")


async def test_the_queue_depth_is_current() -> None:
    """Requests behind a command in flight count until they are sent."""
    metrics = Metrics(Memory("app"))
    gate = asyncio.Event()

    async def command(batch: Any) -> Any:
        await gate.wait()
        return batch

    commit = GroupCommit[int, int]("double", command, max_batch=2, max_queue=10, metrics=metrics)
    tasks = [asyncio.create_task(commit.submit(number)) for number in range(5)]
    for _ in range(5):
        await asyncio.sleep(0)
    held = Counts(metrics.collect())
    gate.set()
    await asyncio.gather(*tasks)
    after = Counts(metrics.collect())

    assert [3, 0] == [counts.total("sealpost_batch_queue_depth", command="double") for counts in (held, after)]
    assert (3, 5) == tuple(
        after.total(f"sealpost_batch_requests_{what}", command="double") for what in ("count", "sum")
    )


async def test_hashing_is_counted_by_purpose(api: Api) -> None:
    """One hashing job for each password of a secret that is set or tried, and for each account password."""
    created = await api.create(phrase="right")
    for phrase in ("wrong", "right"):
        await api.open(created["secret_key"], phrase=phrase)
    await api.sign_up()
    counts = await scrape(api)

    for name in ("sealpost_hashing_duration_seconds", "sealpost_hashing_wait_seconds"):
        assert {"phrase": 3, "password": 2} == {
            work: counts.total(f"{name}_count", work=work) for work in ("phrase", "password")
        }
        assert 0 < counts.total(f"{name}_sum", work="phrase") < 60
    assert (0, 0) == (counts.total("sealpost_hashing_pending"), counts.total("sealpost_hashing_refusals_total"))


async def test_a_full_hashing_queue_is_counted() -> None:
    """Running and waiting jobs are pending, rejected ones are counted, and the wait is that for a thread."""
    metrics = Metrics(Memory("app"))
    pool = HashingPool(threads=1, queue=2, longest_wait=60, metrics=metrics)
    gate = threading.Event()
    work = [asyncio.create_task(pool.run("password", gate.wait)) for _ in range(3)]
    while not (crowded := Counts(metrics.collect())).total("sealpost_hashing_wait_seconds_count"):
        await asyncio.sleep(0.01)
    begun = time.perf_counter()
    for _ in range(2):
        with pytest.raises(Unavailable):
            await pool.run("password", gate.wait)
    await asyncio.sleep(0.1)
    held = time.perf_counter() - begun
    gate.set()
    await asyncio.gather(*work)
    pool.close()
    after = Counts(metrics.collect())

    assert [3, 0] == [counts.total("sealpost_hashing_pending") for counts in (crowded, after)]
    assert 2 == after.total("sealpost_hashing_refusals_total")
    assert 3 == after.total("sealpost_hashing_wait_seconds_count", work="password")
    assert held * 2 <= after.total("sealpost_hashing_wait_seconds_sum", work="password")
    assert held <= after.total("sealpost_hashing_duration_seconds_sum", work="password")


async def test_a_job_that_times_out_in_the_queue_is_a_refusal() -> None:
    """It waited for the maximum time and never ran."""
    metrics = Metrics(Memory("app"))
    pool = HashingPool(threads=1, queue=2, longest_wait=2, metrics=metrics)
    gate = threading.Event()
    running = asyncio.create_task(pool.run("phrase", gate.wait))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await pool.run("phrase", gate.wait)
    gate.set()
    await running
    pool.close()
    counts = Counts(metrics.collect())

    assert (1, 1, 0) == (
        counts.total("sealpost_hashing_refusals_total"),
        counts.total("sealpost_hashing_wait_seconds_count"),
        counts.total("sealpost_hashing_pending"),
    )


@pytest.mark.parametrize("driver", ["motor", pytest.param("pymongo", marks=pytest.mark.filterwarnings(PYMONGO_LEAVES))])
async def test_commands_are_counted_by_outcome(serve: Serve, driver: str) -> None:
    """Successful and rejected MongoDB commands, and the connections."""
    api = await serve(mongo_driver=driver)
    before = await scrape(api)
    for number in range(5):
        await api.items.find_one({"_id": number})
    with pytest.raises(OperationFailure):
        await aggregate(api.items, [{"$nonsense": {}}])
    after = await scrape(api)

    name = "sealpost_mongo_command_duration_seconds_count"
    grown = {
        labels: after.total(name, command=labels[0], outcome=labels[1])
        - before.total(name, command=labels[0], outcome=labels[1])
        for labels in (("find", "failed"), ("aggregate", "ok"), ("aggregate", "failed"))
    }
    assert {("find", "failed"): 0, ("aggregate", "ok"): 0, ("aggregate", "failed"): 1} == grown
    # Background tasks send commands, too.
    assert 5 <= after.total(name, command="find", outcome="ok") - before.total(name, command="find", outcome="ok")
    assert 0 < after.total("sealpost_mongo_command_duration_seconds_sum", command="find") < 60
    assert 1 <= after.total("sealpost_mongo_connections", state="open") <= 20
    # What PyMongo leaves is collected here, and in no other test.
    await api.client.close()
    gc.collect()


async def test_connections_in_use_are_current(serve: Serve) -> None:
    """As many as commands in flight, and none afterwards."""
    api = await serve(mongo_timeout=30)
    await api.items.insert_one({"_id": 1})
    waiting: list[Any] = []

    async def hold_up(session: Any) -> None:
        """Write to documents in a transaction, so that other writes to them wait for its end."""
        await api.items.update_one({"_id": 1}, {"$set": {"by": 0}}, session=session)
        changes = (api.items.update_one({"_id": 1}, {"$set": {"by": number}}) for number in (1, 2, 3))
        waiting.extend(asyncio.ensure_future(change) for change in changes)
        while (await scrape(api)).total("sealpost_mongo_connections", state="in_use") < len(waiting):
            await asyncio.sleep(0.01)

    await api.mongo.transact(hold_up)
    await asyncio.gather(*waiting)
    async with asyncio.timeout(PATIENCE):
        while (counts := await scrape(api)).total("sealpost_mongo_connections", state="in_use"):
            await asyncio.sleep(0.01)

    assert len(waiting) <= counts.total("sealpost_mongo_connections", state="open")


async def test_refusals_are_counted_by_limit(serve: Serve) -> None:
    """Only under the limit that rejected the request."""
    api = await serve(
        rate_limits="on",
        limit_register="1 per 1 hour",
        limit_login_account="1 per 1 hour",
        limit_login_address="3 per 1 hour",
    )
    registered = [
        (await api.call("POST", "/register", {"username": f"ann-{n}", "password": PASSWORD}))[0] for n in "123"
    ]
    for username in ("ann-1", "ann-1", "bob", "cid", "dan"):
        await api.call("POST", "/login", {"username": username, "password": "wrong password"})
    counts = await scrape(api)

    assert [201, 429, 429] == registered
    assert {"register": 2, "login_account": 1, "login_address": 1} == {
        limit: counts.total("sealpost_limit_refusals_total", limit=limit)
        for limit in ("register", "login_account", "login_address")
    }


async def test_authentication_is_timed_by_credential_and_without_hashing(serve: Serve) -> None:
    """Access token, API token and password; for a login without the time on the hashing threads."""
    api = await serve(bcrypt_cost=9)
    session = await api.sign_up()
    _, created = await api.call("POST", "/tokens", {"name": "n", "scopes": ["echo"]}, token=session)
    before = await scrape(api)
    for token in (session, created["token"], created["token"], "nonsense"):
        await api.call("POST", "/echo", {"str": "x", "auth": token})
    for password in (PASSWORD, "wrong password"):
        await api.call("POST", "/login", {"username": "ann", "password": password})
    after = await scrape(api)

    def grown(name: str, **labels: str) -> float:
        return after.total(name, **labels) - before.total(name, **labels)

    name = "sealpost_authentication_duration_seconds"
    assert {"access_token": 2, "api_token": 2, "password": 2} == {
        one: grown(f"{name}_count", credential=one) for one in ("access_token", "api_token", "password")
    }
    taken = grown("sealpost_request_duration_seconds_sum", route="/login")
    hashed = grown("sealpost_hashing_duration_seconds_sum", work="password")
    assert 0 < grown(f"{name}_sum", credential="password") <= taken - hashed


async def test_the_last_query_for_ended_sessions_is_reported(api: Api) -> None:
    """It follows the clock while MongoDB answers."""
    name = "sealpost_ended_sessions_known_timestamp_seconds"
    async with asyncio.timeout(PATIENCE):
        while not (first := (await scrape(api)).total(name)):
            await asyncio.sleep(0.05)
        while first == (later := (await scrape(api)).total(name)):
            await asyncio.sleep(0.05)

    assert time.time() - PATIENCE < first < later <= time.time()


async def test_damaged_data_is_counted(alone: Api) -> None:
    """Secrets, users, sessions, API tokens and posts that were tampered with, and no others."""
    api = alone
    session, tokens = await api.sign_up(), await api.login()
    secrets = [await api.create() for _ in range(2)]
    with_phrase = await api.create(phrase="right")
    path, _ = await message(api)
    _, created = await api.call("POST", "/tokens", {"name": "n", "scopes": ["echo"]}, token=session)
    posts = [await publish(api, session) for _ in range(2)]
    reads: dict[str, Callable[[], Awaitable[Any]]] = {
        "look": lambda: api.call("GET", f"/secrets/{secrets[0]['secret_key']}"),
        "receipt": lambda: api.call("GET", f"/receipts/{secrets[0]['receipt_key']}"),
        "open": lambda: api.open(secrets[1]["secret_key"]),
        "try": lambda: api.open(with_phrase["secret_key"], phrase="right"),
        "read": lambda: api.call("GET", path),
        "post": lambda: api.call("GET", f"/posts/{posts[0]['id']}", token=session),
        "like": lambda: api.call("PUT", f"/posts/{posts[1]['id']}/like", token=session),
        "token": lambda: api.call("POST", "/echo", {"str": "x", "auth": created["token"]}),
        "refresh": lambda: api.call("POST", "/refresh", {"refresh_token": tokens["refresh_token"]}),
        "me": lambda: api.call("GET", "/me", token=session),
    }
    assert 0 == (await scrape(api)).total("sealpost_damaged_total")
    spoilt = {"$set": {"envelope": b"\x02" + bytes(200)}}
    await api.items.update_many({}, {"$set": {"max_opens": "many"}})
    for name in ("users", "sessions", "api_tokens"):
        await api.mongo.collection(name).update_many({}, spoilt)
    await api.mongo.collection("posts").update_one({"_id": bytes.fromhex(posts[0]["id"])}, spoilt)
    await api.mongo.collection("posts").update_one({"_id": bytes.fromhex(posts[1]["id"])}, {"$set": {"likes": -1}})
    found: dict[str, float] = {}
    for name, read in reads.items():
        before = (await scrape(api)).total("sealpost_damaged_total")
        await read()
        found[name] = (await scrape(api)).total("sealpost_damaged_total") - before

    assert dict.fromkeys(reads, True) == {name: count > 0 for name, count in found.items()}


@pytest.mark.parametrize(
    ("change", "status"), [({"envelope": b"\x01" + bytes(200)}, 410), ({"key_id": "another"}, 503)]
)
async def test_a_damaged_envelope_is_counted(alone: Api, change: dict[str, Any], status: int) -> None:
    """Modified, or sealed under a missing key; once per attempt."""
    created = await alone.create()
    await alone.items.update_one({}, {"$set": change})
    statuses = {(await alone.open(created["secret_key"]))[0] for _ in range(2)}

    assert {status} == statuses
    assert 2 == (await scrape(alone)).total("sealpost_damaged_total")


async def test_unexpected_errors_are_counted(make_settings: Callable[..., Settings]) -> None:
    """An unexpected exception counts as an error, and as a request with 5xx."""

    async def fail(request: web.Request) -> web.Response:
        raise ValueError

    metrics = Metrics(Memory("app"))
    edge = Edge(Origin(make_settings()), metrics, request_timeout=PATIENCE)
    app = web.Application(middlewares=[edge.middleware()])
    app.router.add_get("/fail", fail)
    async with TestClient(TestServer(app)) as client, client.get("/fail"), client.get("/nowhere"):
        counts = Counts(metrics.collect())

    assert 1 == counts.total("sealpost_unexpected_errors_total")
    assert {("GET", "/fail", "5xx"): 1, ("GET", "unmatched", "4xx"): 1} == counts.requests()


async def test_a_process_reports_its_own_metrics(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory, files, times and CPU time, and the maximum event loop lag of an interval."""
    monkeypatch.setattr(process, "INTERVAL", 0.3)
    api = await serve()
    await asyncio.sleep(0.15)
    first = await scrape(api)
    late = first
    async with asyncio.timeout(PATIENCE):
        # Each interval until then has a lag: a slow scrape would miss that of a single one.
        while late.total("sealpost_event_loop_lag_seconds") < 0.3:
            time.sleep(0.5)  # noqa: ASYNC251 (nothing else shall run meanwhile)
            late = await scrape(api)
        while (await scrape(api)).total("sealpost_event_loop_lag_seconds") >= 0.3:
            await asyncio.sleep(0.02)

    assert 10e6 < late.total("sealpost_process_resident_memory_bytes") < 10e9
    assert 3 < late.total("sealpost_process_open_fds") < 10_000
    started = late.total("sealpost_process_start_time_seconds")
    assert started < first.total("sealpost_process_seen_timestamp_seconds") < time.time()
    assert first.total("sealpost_process_seen_timestamp_seconds") < late.total(
        "sealpost_process_seen_timestamp_seconds"
    )
    assert 0 < first.total("sealpost_process_cpu_seconds_total") <= late.total("sealpost_process_cpu_seconds_total")
    assert {"app"} == late.values("sealpost_process_cpu_seconds_total", "worker")
