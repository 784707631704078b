"""MongoDB: set-up, and the translation of its errors."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure

from src.app import MONGO, build_app
from src.core.database.embedded import find_mongod
from src.core.database.mongo import (
    CONNECT_MILLISECONDS,
    HEARTBEAT_MILLISECONDS,
    Mongo,
    _direct,
    _seeds,
    check_url,
    insert_each,
    insert_unique,
    translate_mongo_errors,
)
from src.core.database.primary import LONGEST_WAIT
from src.errors import Unavailable
from src.manage.doctor.database import examine_database
from src.manage.doctor.examination import Outcome, Status
from src.manage.doctor.mongo_connection import MongoConnection
from src.sealed.items import INDEXES
from src.settings import Settings, SettingsError

from .conftest import Api
from .examination import collect
from .processes import PATIENCE
from .relay import relay_to

MakeSettings = Callable[..., Settings]
Serve = Callable[..., Awaitable[Api]]


@pytest.mark.lifecycle
async def test_an_uninitiated_set_is_initiated(bare_mongod: str, make_settings: MakeSettings) -> None:
    """4 processes that start at once wait for mongod, initiate a single set, and have their indexes."""
    processes = [Mongo(make_settings(), f"mongodb://{bare_mongod}/?replicaSet=rs") for _ in range(4)]

    await asyncio.wait_for(asyncio.gather(*(mongo.set_up(INDEXES) for mongo in processes)), PATIENCE)

    for mongo in processes:
        assert await mongo.is_ready()
        assert "delete_at" in await mongo.collection("items").index_information()
        await mongo.close()


@pytest.mark.lifecycle
async def test_a_standalone_server_never_becomes_ready(
    tmp_path: Path, unused_tcp_port: int, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server without a replica set is rejected with a clear message."""
    command: list[Any] = [find_mongod(None), "--dbpath", tmp_path, "--port", unused_tcp_port, "--nounixsocket"]
    command += ["--bind_ip", "127.0.0.1", "--logpath", tmp_path / "log", "--networkMessageCompressors", "disabled"]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL) as process:
        mongo = Mongo(make_settings(), f"mongodb://127.0.0.1:{unused_tcp_port}/")
        setting_up = asyncio.create_task(mongo.set_up(INDEXES))
        async with asyncio.timeout(PATIENCE):
            while "is not a replica set" not in capsys.readouterr().out:
                await asyncio.sleep(0.05)
        setting_up.cancel()
        assert not await mongo.is_ready()
        await mongo.close()
        process.terminate()


async def test_a_router_is_advised_against(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A MongoDB that answers `hello` as the router of a sharded cluster is used, with a warning in log and doctor."""
    url = api.mongo._url
    mongo = Mongo(api.settings, url)
    command, opened = mongo._client.admin.command, MongoConnection.open

    class Admin:
        async def command(self, name: str) -> dict[str, Any]:
            return as_router(await command(name))

    async def open_router(self: MongoConnection) -> Outcome:
        outcome = await opened(self)
        self.hello = as_router(self.hello)
        return outcome

    def as_router(hello: dict[str, Any]) -> dict[str, Any]:
        return {**{name: value for name, value in hello.items() if name != "setName"}, "msg": "isdbgrid"}

    monkeypatch.setattr(mongo._client, "admin", Admin())
    monkeypatch.setattr(MongoConnection, "open", open_router)
    await mongo.set_up(INDEXES)
    await mongo.close()
    found = await collect(examine_database(api.settings.model_copy(update={"mongo_url": SecretStr(url)}), None))

    assert "MongoDB is a sharded cluster, which is not supported" in capsys.readouterr().out
    assert Status.WARNING is found["replica set"].status
    assert "docs/sharding.md" in found["replica set"].advice


async def test_set_up_is_repeatable_and_drops_nothing(serve: Serve, own_database: str) -> None:
    """A second process on the same database changes nothing, including foreign indexes."""
    api = await serve(mongo_database=own_database)
    await api.items.insert_one({"_id": b"kept"})
    await api.items.create_index("kind", name="someone else's")
    other = Mongo(api.settings, api.mongo._url)

    await other.set_up(INDEXES)

    assert {"_id_", "delete_at", "files_until", "someone else's"} == set(await api.items.index_information())
    assert 1 == await api.items.count_documents({})
    await other.close()


async def test_without_mongodb_requests_get_503(
    serve: Callable[..., Awaitable[Api]], make_settings: MakeSettings, unused_tcp_port: int
) -> None:
    """Before MongoDB answers, the process is alive and not ready, and every response has Retry-After."""
    settings = make_settings(mongo_timeout=0.3, shutdown_timeout=1)
    app = await build_app(settings, f"mongodb://127.0.0.1:{unused_tcp_port}/?replicaSet=rs")
    async with TestClient(TestServer(app)) as client:
        api = Api(client, app[MONGO], settings)
        key = "A" * 43
        assert (200, {"status": "ok"}) == await api.call("GET", "/healthz")
        for method, path, body in [
            ("GET", "/readyz", None),
            ("POST", "/generate", b'{"secret": "x"}'),
            ("GET", f"/secrets/{key}", None),
            ("POST", f"/secrets/{key}", None),
        ]:
            answer = await api.send(method, path, body)
            assert (503, "unavailable", "1") == (answer.status, answer.json()["code"], answer.headers["Retry-After"])


async def timed(api: Api, method: str, path: str, body: bytes | None) -> tuple[int, float]:
    """Return the status of the response to a request, and the seconds until it."""
    begun = time.monotonic()
    answer = await api.send(method, path, body)
    return answer.status, time.monotonic() - begun


async def until_created(api: Api) -> None:
    """Try to create a secret until it succeeds."""
    async with asyncio.timeout(PATIENCE):
        while 201 != (await api.send("POST", "/generate", b'{"secret": "x"}')).status:
            await asyncio.sleep(0.01)


@pytest.mark.lifecycle
async def test_requests_fail_fast_while_there_is_no_primary(
    serve: Serve, bare_mongod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a primary, requests wait for one once, together, for less than 1 second; with one, they succeed.

    If each waited in turn, or for the timeout of a command, 20 requests would take at least 18 s. The primary is found
    without the next heartbeat.
    """
    monkeypatch.setattr("src.core.database.mongo.HEARTBEAT_MILLISECONDS", 10 * int(PATIENCE) * 1000)
    with MongoClient[dict[str, Any]](bare_mongod, directConnection=True) as member:
        member.admin.command("ping")
        api = await serve(f"mongodb://{bare_mongod}/?replicaSet=rs")
        member.admin.command("replSetStepDown", 60, force=True)

        requests = [("POST", "/generate", b'{"secret": "x"}'), ("GET", "/readyz", None)] * 10
        at_once = await asyncio.gather(*(timed(api, *request) for request in requests))
        later = [await timed(api, *request) for request in requests]
        answer = await api.send("POST", "/generate", b'{"secret": "x"}')
        member.admin.command("replSetFreeze", 0)
        while not member.admin.command("hello")["isWritablePrimary"]:
            await asyncio.sleep(0.01)
        await until_created(api)
    await api.client.close()

    assert LONGEST_WAIT < 1
    assert {503} == {status for status, _ in at_once + later}
    assert max(seconds for _, seconds in at_once) < len(requests) * LONGEST_WAIT / 2
    assert sum(seconds for _, seconds in later) < len(requests) * LONGEST_WAIT / 2
    assert ("unavailable", "1") == (answer.json()["code"], answer.headers["Retry-After"])


@pytest.mark.lifecycle
async def test_a_primary_whose_packets_are_lost_counts_as_gone_within_seconds(serve: Serve, bare_mongod: str) -> None:
    """The heartbeat detects a network that loses every packet; requests succeed soon after it recovers."""
    async with relay_to(bare_mongod) as relay:
        api = await serve(f"mongodb://{relay.address}/?replicaSet=rs", mongo_timeout=1)
        relay.lose()
        async with asyncio.timeout(PATIENCE):
            while api.mongo._primary.is_known():
                await asyncio.sleep(0.05)
        status, _ = await timed(api, "GET", "/readyz", None)
        relay.deliver()
        await until_created(api)
        options = api.mongo._client.options
        await api.client.close()

    assert 503 == status
    assert HEARTBEAT_MILLISECONDS + CONNECT_MILLISECONDS <= 5000
    assert HEARTBEAT_MILLISECONDS / 1000 == options.heartbeat_frequency
    assert api.settings.mongo_timeout == options.pool_options.connect_timeout


async def test_readiness_follows_the_database(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ready once it is set up; not ready when the database stops answering."""
    assert (200, {"status": "ready"}) == await api.call("GET", "/readyz")

    class Broken:
        async def command(self, _: str) -> None:
            raise AutoReconnect("gone")

    monkeypatch.setattr(api.mongo, "database", Broken())

    assert 503 == (await api.call("GET", "/readyz"))[0]


class Refusing:
    """A collection whose bulk insert fails as configured."""

    def __init__(self, details: dict[str, Any]) -> None:
        self._details = details

    async def insert_many(self, documents: Any, ordered: bool) -> None:
        """Fail."""
        raise BulkWriteError(self._details)


async def test_one_refused_document_fails_alone(api: Api) -> None:
    """A rejected document gets its own error; its neighbours are stored."""
    await api.items.insert_one({"_id": b"taken"})

    outcomes = await insert_each(api.items, [{"_id": b"one"}, {"_id": b"taken"}, {"_id": b"two"}])

    assert [None, Unavailable, None] == [outcome and type(outcome) for outcome in outcomes]
    assert 3 == await api.items.count_documents({})


async def test_what_no_majority_has_is_not_acknowledged() -> None:
    """If the write concern fails, no document of the batch counts as stored."""
    with pytest.raises(Unavailable):
        await insert_each(Refusing({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}), [{"_id": 1}])


async def test_a_duplicate_without_a_majority_is_not_disclosed() -> None:
    """A value is taken once a majority has it; until then, the database counts as unavailable."""
    duplicate = {"index": 0, "code": 11_000}

    assert not await insert_unique(Refusing({"writeErrors": [duplicate], "writeConcernErrors": []}), {"_id": 1})
    with pytest.raises(Unavailable):
        await insert_unique(Refusing({"writeErrors": [duplicate], "writeConcernErrors": [{"code": 64}]}), {"_id": 1})


@pytest.mark.parametrize("error", [AutoReconnect("x"), OperationFailure("s3cret", code=13)])
def test_the_drivers_failures_become_unavailable(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Any exception of the driver is a 503, logged with type and code, without its message."""
    with pytest.raises(Unavailable), translate_mongo_errors():
        raise error

    printed = capsys.readouterr().out
    assert type(error).__name__ in printed
    assert "s3cret" not in printed


@pytest.mark.parametrize("url", ["", "s3cret", "http://s3cret/", "mongodb://s3cret@@", "mongodb://h:port/"])
def test_an_invalid_mongodb_url_is_rejected(url: str) -> None:
    """The error names the setting and does not repeat the URL."""
    with pytest.raises(SettingsError) as caught:
        check_url(url)

    assert "SEALPOST_MONGO_URL" in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["mongodb://a,b:1,[::1]:2/?replicaSet=x", "mongodb+srv://u:p@cluster.example/", "mongodb://u:p%40@h/db?tls=true"],
)
def test_replica_set_and_srv_urls_are_accepted(url: str) -> None:
    """All URL forms in MongoDB's documentation are accepted."""
    check_url(url)


async def test_a_members_own_url_keeps_all_but_the_list(make_settings: MakeSettings) -> None:
    """The set is initiated on the first member with the same credentials and options."""
    url = "mongodb://u:p%40@a:1,[::1]:2/db?replicaSet=x&tls=true"

    assert (["a:1", "[::1]:2"], "x") == _seeds(url)
    assert ([], None) == _seeds("mongodb+srv://cluster.example/")
    assert "mongodb://u:p%40@a:1/db?replicaSet=x&tls=true" == _direct(url, "a:1")


async def stalled_transaction(host: str, settings: Settings, process_id: int, stalls_in: str) -> tuple[int, float]:
    """Stop mongod during a transaction; return how many are open when it has failed, and how long the loop blocked.

    It is stopped before a command of the transaction, or before the commit.
    """
    mongo = Mongo(settings, f"mongodb://{host}/?replicaSet=rs")
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async def work(session: Any) -> None:
        collection = mongo.collection("items")
        await collection.insert_one({"_id": stalls_in.encode()}, session=session)
        # The blocked command starts late, and so is in flight when the transaction times out.
        await asyncio.sleep(settings.mongo_timeout / 2)
        os.kill(process_id, signal.SIGSTOP)
        if stalls_in == "work":
            await collection.insert_one({"_id": b"second"}, session=session)

    await mongo.set_up(INDEXES)
    watching = asyncio.create_task(watch())
    try:
        with pytest.raises(Unavailable):
            await mongo.transact(work)
        still_open = len(mongo._transactions)
        # The watch measures after the blocking, and commands of the transaction end later, in threads.
        await asyncio.sleep(0.05)
        if mongo._transactions:
            await asyncio.wait(mongo._transactions, timeout=3 * settings.mongo_timeout)
    finally:
        os.kill(process_id, signal.SIGCONT)
        watching.cancel()
        await mongo.close()
    return still_open, longest


@pytest.mark.lifecycle
@pytest.mark.parametrize("stalls_in", ["work", "commit"])
async def test_a_transaction_on_a_frozen_database_times_out(
    bare_mongod: str, make_settings: MakeSettings, stalls_in: str
) -> None:
    """It fails before its command times out, which started later, and no command blocks the event loop."""
    limit = 6.0
    settings = make_settings(mongo_timeout=limit)
    # The port alone could be the beginning of another one.
    mongod = f"port {bare_mongod.rpartition(':')[2]}( |$)"
    found = subprocess.run(["pgrep", "-f", mongod], capture_output=True, check=True)

    still_open, stood_still = await stalled_transaction(bare_mongod, settings, int(found.stdout), stalls_in)

    assert 1 == still_open
    assert stood_still < 0.75 * limit


async def test_a_timed_out_transaction_is_not_committed(
    api: Api, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that ends after the caller's error leaves nothing, even if a clock says that time is left."""
    monkeypatch.setattr("src.core.database.mongo.time", SimpleNamespace(monotonic=lambda: 0.0))
    settings = make_settings(mongo_timeout=1, mongo_database=api.settings.mongo_database)
    mongo = Mongo(settings, api.mongo._url)
    # The client's first command waits for its connection, perhaps for longer than the transaction may take.
    await mongo.set_up({})
    timed_out = asyncio.Event()

    async def work(session: Any) -> None:
        await mongo.collection("items").insert_one({"_id": b"late"}, session=session)
        await timed_out.wait()

    with pytest.raises(Unavailable):
        await mongo.transact(work)
    timed_out.set()
    await asyncio.gather(*mongo._transactions, return_exceptions=True)
    await mongo.close()

    assert 0 == await api.items.count_documents({})
