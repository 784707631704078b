"""The doctor detects each fault of MongoDB, with a clear message and in time."""

import asyncio
import gc
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pymongo import MongoClient

from bench.running_stack import free_port
from src.core.clock import utc_now
from src.core.crypto.keys import read_key_ring
from src.core.database.embedded import errors, find_mongod, replica_set
from src.manage.doctor import database, disk, mongo_connection
from src.manage.doctor.database import examine_database
from src.manage.doctor.examination import LIMIT, Outcome, Status
from src.manage.doctor.mongo_connection import _PROBE_SECONDS, ANSWER_SECONDS, kernel_advice
from src.manage.doctor.mongodb import FIRST_FIXED, compare_clocks, compare_indexes, is_fixed
from src.settings import Settings
from src.storage import INDEXES

from .conftest import Api
from .examination import collect, marks
from .processes import PATIENCE

# Closed while it connects, PyMongo's own client leaves a socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
MakeSettings = Callable[..., Settings]
Serve = Callable[..., Awaitable[Api]]


@pytest.fixture(autouse=True)
def sockets_are_collected() -> Iterator[None]:
    """Collect such sockets here, and not in another test."""
    yield
    gc.collect()


async def examine_at(url: str, make_settings: MakeSettings, **overrides: Any) -> dict[str, Outcome]:
    """Check the MongoDB at a URL."""
    settings = make_settings(mongo_url=SecretStr(url), **overrides)
    return await collect(examine_database(settings, read_key_ring(settings)))


async def test_each_fault_of_an_index_is_found(serve: Serve, own_database: str) -> None:
    """Missing, with other options, with another key, or under another name, each with advice."""
    api = await serve(mongo_database=own_database)
    found = [await compare_indexes(api.mongo, INDEXES)]
    items, users, sessions, posts = (api.mongo.collection(name) for name in ("items", "users", "sessions", "posts"))
    await items.drop_index("delete_at")
    found.append(await compare_indexes(api.mongo, INDEXES))
    await items.create_index("delete_at", name="delete_at", expireAfterSeconds=60)
    found.append(await compare_indexes(api.mongo, INDEXES))
    await items.drop_index("delete_at")
    await items.create_index("expires_at", name="delete_at", expireAfterSeconds=0)
    for collection, name in ((users, "name_index"), (sessions, "ended_at"), (posts, "deleted")):
        await collection.drop_index(name)
        await collection.create_index(name, name=f"{name}_1" if collection is posts else name)
    found.append(await compare_indexes(api.mongo, INDEXES))

    assert [Status.OK, Status.FAILED, Status.FAILED, Status.FAILED] == [outcome.status for outcome in found]
    assert ("items.delete_at is missing", "Restart a process") == (found[1].found, found[1].advice[:17])
    assert "items.delete_at differs in expireAfterSeconds" == found[2].found
    assert 'Drop it: db.items.dropIndex("delete_at") in mongosh.' in found[2].advice
    assert {
        "items.delete_at has a different key",
        "users.name_index differs in unique",
        "sessions.ended_at differs in sparse",
        "posts.deleted exists under the name deleted_1",
    } == set(found[3].found.split("; "))


async def test_a_key_missing_from_the_ring_is_reported(api: Api, mongo_url: str, make_settings: MakeSettings) -> None:
    """It is named, with the data under it; without a ring there is nothing to compare."""
    await api.create()
    await api.sign_up()
    await api.store_events()
    # The server may have stored some of the events before.
    records = await api.mongo.collection("audit").count_documents({})
    assert api.settings.keys is not None
    key_id = api.settings.keys.get_secret_value().partition(":")[0]
    settings = make_settings(mongo_url=SecretStr(mongo_url), mongo_database=api.settings.mongo_database)

    other = await collect(examine_database(settings, read_key_ring(settings)))
    none = await collect(examine_database(settings, None))

    assert {"keys in use"} == marks(other, Status.FAILED)
    assert (
        f"keys missing from the key ring: {key_id} (users 1, sessions 1, audit {records}, items 1)"
        == other["keys in use"].found
    )
    assert Status.NOT_CHECKED is none["keys in use"].status


def later(seconds: float) -> datetime:
    """Return the time of a clock that is this far ahead."""
    return utc_now() + timedelta(seconds=seconds)


async def test_a_clock_offset_is_reported(api: Api) -> None:
    """By its amount, direction and uncertainty."""
    skews = {
        0: (Status.OK, "± 0.0"),
        3: (Status.WARNING, "behind"),
        -3: (Status.WARNING, "ahead of"),
        60: (Status.FAILED, "behind"),
    }
    for skew, (mark, said) in skews.items():
        outcome = await compare_clocks(api.mongo, partial(later, skew))

        assert mark is outcome.status
        assert said in outcome.found
        assert ("NTP" in outcome.advice) == (mark is not Status.OK)


async def test_thresholds_are_reported(
    api: Api, mongo_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old version, a slow network and a full disk, by raising the thresholds."""
    monkeypatch.setattr(database, "OLDEST", (99, 0))
    monkeypatch.setattr(database, "SLOW_SECONDS", 0)
    monkeypatch.setattr(disk, "TOO_FEW_BYTES", 2**80)
    of_the_server = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys}

    outcomes = await examine_at(mongo_url, make_settings, **of_the_server)

    assert {"MongoDB version", "MongoDB space"} == marks(outcomes, Status.FAILED)
    assert {"round trip"} == marks(outcomes, Status.WARNING)
    assert "is too old" in outcomes["MongoDB version"].found


@contextmanager
def mongod(
    directory: Path, *options: str, compressors: str = "disabled"
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """A mongod for this test, once it listens; yields its host and port, and its process."""
    directory.mkdir()
    port = free_port()
    command = [str(find_mongod(None)), "--dbpath", str(directory), "--port", str(port), "--bind_ip", "127.0.0.1"]
    command += ["--nounixsocket", "--oplogSize", "10", "--wiredTigerCacheSizeGB", "0.25", *options]
    command += ["--networkMessageCompressors", compressors]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with MongoClient[dict[str, Any]](f"mongodb://127.0.0.1:{port}/?directConnection=true") as client:
                client.admin.command("ping")
            yield f"127.0.0.1:{port}", process
        finally:
            process.kill()


@pytest.mark.lifecycle
async def test_an_incomplete_replica_set_is_reported(tmp_path: Path, make_settings: MakeSettings) -> None:
    """Not initiated, with another name, without the service's collections, or without a majority."""
    with mongod(tmp_path / "db", "--replSet", "rs0") as (host, _):
        url = f"mongodb://{host}/?replicaSet=rs0"
        bare = await examine_at(url, make_settings, mongo_timeout=2)
        with MongoClient[dict[str, Any]](f"mongodb://{host}/?directConnection=true") as client:
            # It remains primary for a minute although it does not see a majority.
            one = {"_id": "rs0", "members": [{"_id": 0, "host": host}], "settings": {"electionTimeoutMillis": 60_000}}
            client.admin.command("replSetInitiate", one)
            async with asyncio.timeout(PATIENCE):
                while not client.admin.command("hello")["isWritablePrimary"]:
                    await asyncio.sleep(0.05)
            other = await examine_at(f"mongodb://{host}/?replicaSet=other", make_settings, mongo_timeout=2)
            empty = await examine_at(url, make_settings)
            limits = client["sealpost"]["limits"]
            limits.create_index("expireAt", expireAfterSeconds=0)
            configuration = client.admin.command("replSetGetConfig")["config"]
            configuration["members"].append({"_id": 1, "host": f"127.0.0.1:{free_port()}"})
            configuration["version"] += 1
            client.admin.command("replSetReconfig", configuration, force=True)
            alone = await examine_at(url, make_settings, mongo_database="sealpost")

            assert 0 == limits.count_documents({})

    assert f"no primary answers: {host}: not initiated as a replica set" == bare["MongoDB"].found
    assert (
        {"MongoDB"} == bare.keys() - marks(bare, Status.NOT_CHECKED) == other.keys() - marks(other, Status.NOT_CHECKED)
    )
    assert "no host of SEALPOST_MONGO_URL is a member of the replica set" in other["MongoDB"].found
    assert {"indexes"} == marks(empty, Status.FAILED)
    assert "has none of the service's collections" in empty["indexes"].found
    assert {"write concern", "MongoDB space"} == marks(empty, Status.NOT_CHECKED)
    assert f"rs0: {host} primary" == empty["replica set"].found
    assert {"write concern", "indexes"} == marks(alone, Status.FAILED)
    assert "no majority acknowledged a write in time" == alone["write concern"].found
    assert Status.WARNING is alone["replica set"].status
    assert "does not answer" in alone["replica set"].found


@pytest.mark.parametrize(
    ("version", "fixed"),
    [
        ((3, 6, 23, 0), False),
        ((4, 4, 29, 0), False),
        ((4, 4, 30, 0), True),
        ((6, 0, 26, 0), False),
        ((6, 0, 27, 0), True),
        ((7, 3, 4, 0), False),
        ((8, 0, 16, 0), False),
        ((8, 0, 17, 0), True),
        ((8, 1, 9, 0), False),
        ((8, 2, 3, 0), True),
        ((8, 3, 0, 0), True),
    ],
)
def test_each_series_has_its_first_fixed_release(version: tuple[int, ...], *, fixed: bool) -> None:
    """Discontinued series have none, and later series include the fix from the start."""
    assert fixed == is_fixed(version)


@pytest.mark.lifecycle
async def test_an_unpatched_mongodb_with_zlib_is_reported(
    tmp_path: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without zlib, or with the fix, it is ok."""
    outcomes = {}
    # The tests' version, whichever it is, counts as unpatched.
    monkeypatch.setattr("src.manage.doctor.mongodb.FIRST_FIXED", dict.fromkeys(FIRST_FIXED, 1_000) | {(999, 0): 0})
    for compressors in ("snappy,zstd,zlib", "snappy,zstd", "disabled"):
        with mongod(tmp_path / compressors, compressors=compressors) as (host, _):
            outcomes[compressors] = (await examine_at(f"mongodb://{host}/", make_settings))["MongoDB patches"]

    assert [Status.FAILED, Status.OK, Status.OK] == [outcome.status for outcome in outcomes.values()]
    assert "--networkMessageCompressors disabled" in outcomes["snappy,zstd,zlib"].advice


@pytest.mark.lifecycle
async def test_a_standalone_frozen_or_dead_mongodb_is_reported_in_time(
    tmp_path: Path, make_settings: MakeSettings
) -> None:
    """Each with its cause, within the time limit of a check, even if it freezes midway."""
    with mongod(tmp_path / "db") as (host, process):
        named = await examine_at(f"mongodb://{host}/?replicaSet=rs0", make_settings, mongo_timeout=1)
        alone = await examine_at(f"mongodb://{host}/", make_settings)
        settings = make_settings(mongo_url=SecretStr(f"mongodb://{host}/"), mongo_timeout=3)
        frozen_midway = {}
        async for finding in examine_database(settings, None):
            frozen_midway[finding.check] = finding.outcome
            if finding.check == "MongoDB patches":
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        frozen = await examine_at(f"mongodb://{host}/", make_settings, mongo_timeout=2)
    dead = await examine_at(f"mongodb://ann:s3cret@{host}/?replicaSet=rs0", make_settings, mongo_timeout=2)

    assert "--replSet" in named["MongoDB"].advice
    assert {"replica set", "indexes"} == marks(alone, Status.FAILED)
    assert "a standalone server" in alone["replica set"].found
    assert {"replica set", "write concern"} == marks(frozen_midway, Status.FAILED)
    assert "MongoDB did not answer in time" == frozen_midway["write concern"].found
    assert "MongoDB stopped answering" == frozen_midway["indexes"].found
    assert f"no primary answers: {host}: does not answer" == frozen["MongoDB"].found
    # Nothing else is waited for, and the cause is known before the time of the check is up.
    assert {"MongoDB"} == frozen.keys() - marks(frozen, Status.NOT_CHECKED)
    assert ANSWER_SECONDS + _PROBE_SECONDS < LIMIT
    assert f"no primary answers: {host}: connection refused" == dead["MongoDB"].found


@pytest.mark.lifecycle
async def test_rejected_and_unfinished_commands_are_reported(tmp_path: Path, make_settings: MakeSettings) -> None:
    """A rejection concerns a single check; after a timeout, the others do not wait."""
    with (
        mongod(tmp_path / "db", "--setParameter", "enableTestCommands=1") as (host, _),
        MongoClient[dict[str, Any]](f"mongodb://{host}/?directConnection=true") as client,
    ):
        client["sealpost"]["limits"].create_index("expireAt", expireAfterSeconds=0)
        found = []
        for data in (
            {"failCommands": ["dbStats"], "errorCode": 8},
            {"failCommands": ["insert", "delete"], "blockConnection": True, "blockTimeMS": 6000},
        ):
            client.admin.command("configureFailPoint", "failCommand", mode="alwaysOn", data=data)
            url = f"mongodb://{host}/"
            found.append(await examine_at(url, make_settings, mongo_timeout=3, mongo_database="sealpost"))

    assert "MongoDB rejected the command (code 8)" == found[0]["MongoDB space"].found
    assert {"keys in use", "write concern"} <= marks(found[0], Status.OK)
    assert "MongoDB did not answer in time" == found[1]["write concern"].found
    assert "MongoDB stopped answering" == found[1]["clock"].found


async def test_connection_errors_are_reported(
    mongo_url: str, make_settings: MakeSettings, tmp_path: Path, unused_tcp_port: int
) -> None:
    """A wrong password, an unknown host, TLS on one side only, an invalid URL; never with the password."""
    port = mongo_url.partition("@")[2].partition("/")[0]
    user = mongo_url.partition("@")[0].rpartition(":")[0]
    urls = {
        f"{user}:s3cret@{port}/?authSource=admin&replicaSet=sealpost": "rejects the user name or password",
        "mongodb://ann:s3cret@sealpost.invalid/?replicaSet=r": "its host name cannot be resolved",
        "mongodb+srv://ann:s3cret@sealpost.invalid/": "name in the mongodb+srv:// URL cannot be resolved",
        f"mongodb://ann:s3cret@{port}/?replicaSet=r&tls=true": "only one side uses TLS",
        "s3cret": "not a mongodb:// or mongodb+srv:// URL",
        f"mongodb://ann:s3cret@127.0.0.1:{unused_tcp_port}/?tlsCAFile=/none&tls=true": "/none cannot be used",
    }

    for url, said in urls.items():
        outcome = await examine_at(url, make_settings, mongo_timeout=2)

        assert said in outcome["MongoDB"].found
        assert outcome["MongoDB"].advice
        assert "s3cret" not in repr(outcome)
        assert {"MongoDB"} == outcome.keys() - marks(outcome, Status.NOT_CHECKED)


async def test_checks_without_privileges_are_skipped(
    api: Api, mongo_url: str, mongo_directory: Path, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A missing privilege hides some checks, and is a failure only if the service itself needs it."""
    monkeypatch.setattr(database, "SLOW_SECONDS", PATIENCE)
    home = mongo_directory / "mongo"
    found = {}
    with replica_set.connect_as_system(int((home / "port").read_text()), (home / "key").read_text()) as system:
        for role in ("read", "nothing"):
            roles = [{"role": role, "db": api.settings.mongo_database}] if role == "read" else []
            name = f"{role}-{os.getpid()}"
            system.admin.command("createUser", name, pwd="s3cret", roles=roles)
            url = f"mongodb://{name}:s3cret@{mongo_url.partition('@')[2]}"
            found[role] = await examine_at(url, make_settings, mongo_database=api.settings.mongo_database)
            system.admin.command("dropUser", name)

    assert {"write concern"} == marks(found["read"], Status.FAILED)
    assert "may not write to the database" in found["read"]["write concern"].found
    assert set() == marks(found["nothing"], Status.FAILED)
    assert {"MongoDB", "MongoDB version", "MongoDB patches", "replica set", "round trip", "clock"} == marks(
        found["nothing"], Status.OK
    )
    assert "s3cret" not in repr(found)


async def test_an_embedded_mongodb_is_not_started(
    tmp_path: Path, mongo_directory: Path, mongo_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is stopped or just starting is reported; a running one is checked."""
    assert mongo_url

    async def embedded(data_dir: Path) -> Outcome:
        settings = make_settings(data_dir=data_dir, keys=None)
        return (await collect(examine_database(settings, None)))["MongoDB"]

    stopped = await embedded(tmp_path / "data")
    (tmp_path / "unusable" / "mongo" / "gate.lock").mkdir(parents=True)
    unusable = await embedded(tmp_path / "unusable")
    (tmp_path / "busy" / "mongo").mkdir(parents=True)
    with errors.hold_gate(tmp_path / "busy" / "mongo" / "gate.lock"), monkeypatch.context() as patch:
        patch.setattr(mongo_connection, "ANSWER_SECONDS", 0.5)
        busy = await embedded(tmp_path / "busy")

    assert [Status.FAILED] * 3 == [outcome.status for outcome in (stopped, unusable, busy)]
    assert stopped.found.endswith("is not running")
    assert not (tmp_path / "data").exists()
    assert "being started or stopped" in busy.found
    assert "cannot be used" in unusable.found
    assert Status.OK is (await embedded(mongo_directory)).status


def test_a_kernel_on_which_mongodb_8_crashes_is_named() -> None:
    """From Linux 6.19 on, with the workaround; other kernels are not mentioned."""
    mentioned = {release: kernel_advice(release) for release in ("6.19.14-200.fc43.x86_64", "7.0.0-14-generic")}

    assert {""} == {kernel_advice(release) for release in ("6.18.7-200.fc43.x86_64", "5.15.0", "odd")}
    for release, advice in mentioned.items():
        assert release in advice
        assert "GLIBC_TUNABLES=glibc.pthread.rseq=1" in advice
