"""What the tests stand on: each process has a real MongoDB, and each test an empty database and a server over it."""

import asyncio
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymongo
import pytest
from aiohttp import DummyCookieJar, UnixConnector, web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import settings as hypothesis_settings
from multidict import CIMultiDictProxy

from bench.running_stack import free_port
from src.app import ALONE, AUDIT, MONGO, build_app
from src.audit.recorder import AuditRecorder
from src.command import event_loop_factory
from src.core.crypto.keys import KEY_FILE, ensure_key_file, new_key, read_key_ring
from src.core.database.embedded import embedded_mongod, find_mongod
from src.core.database.group_commit import Batching
from src.core.database.mongo import Mongo
from src.settings import Settings

from .databases import Databases
from .processes import PATIENCE, PATIENT
from .programs import end_fork_server
from .tracing import leave_motor_out, trace_nothing

MEMORY = Path("/dev/shm")
ROOM = 4 << 30
PASSWORD = "correct horse battery staple"
DRIVER = os.environ.get("TEST_MONGO_DRIVER", "motor")
DATABASES = {"mongo_url", "bare_mongod"}
"""A test uses MongoDB if it uses one of these fixtures, directly or not."""
PYMONGO_LEAVES = (
    r"ignore:unclosed <socket\.socket fd=\d+, family=2, type=1, proto=6, laddr=\(.[\d.]+., \d+\)"
    r"(, raddr=\(.127\.0\.0\.1., \d+\))?>:ResourceWarning"
)
"""PyMongo's own client, when it is closed, leaves a socket that it is connecting to the garbage collector.

It may already have a peer. On Motor, which closes such sockets, no socket may be left at all.
"""
for name in [name for name in os.environ if name.startswith("SEALPOST_")]:
    del os.environ[name]

# A shell lets its background jobs ignore Ctrl-C, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No process that a test starts shares a file with another one.
os.environ["SEALPOST_GATHERED_FILE"] = "off"

hypothesis_settings.register_profile("sealpost", deadline=None, max_examples=60)
hypothesis_settings.load_profile("sealpost")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests on the event loop that serves users, which takes the tracer for coverage less time too."""
    return {"as served": event_loop_factory() or asyncio.new_event_loop}


def pytest_configure(config: pytest.Config) -> None:
    """Measure only where tests run, and not in Motor's threads: a seventh of the suite's time was the tracer there."""
    if DRIVER == "pymongo":
        config.addinivalue_line("filterwarnings", PYMONGO_LEAVES)
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        trace_nothing()  # the process that hands the tests out
    else:
        leave_motor_out()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use MongoDB, which are the ones to run on another driver."""
    for item in items:
        if isinstance(item, pytest.Function) and DATABASES & set(item.fixturenames):
            item.add_marker(pytest.mark.database)


def pytest_sessionfinish() -> None:
    """End what serves all tests of this process."""
    end_fork_server()


def altered(value: bytes) -> bytes:
    """Return the bytes with one bit of the last one changed."""
    return value[:-1] + bytes([value[-1] ^ 1])


@dataclass(frozen=True)
class RawAnswer:
    """An answer as it came."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    def json(self) -> Any:
        """Return the parsed body."""
        return json.loads(self.body)


@dataclass
class Api:
    """A running server as its users meet it, and the database behind it."""

    client: "TestClient[web.Request, web.Application]"
    mongo: Mongo
    settings: Settings

    async def call(self, method: str, path: str, body: object = None, *, token: str = "") -> tuple[int, Any]:
        """Return the status and the parsed JSON of an answer; a token is sent as the caller's credentials."""
        data = None if body is None else json.dumps(body)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with self.client.request(method, path, data=data, headers=headers) as response:
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def send(self, method: str, path: str, data: bytes | None = None, **headers: str) -> RawAnswer:
        """Return the answer to raw bytes."""
        async with self.client.request(
            method, path, data=io.BytesIO(data) if data else None, headers=headers
        ) as response:
            return RawAnswer(response.status, response.headers, await response.read())

    async def store_events(self) -> None:
        """Store the audit's events, which a server otherwise does within half a second."""
        recorder = self.client.app[AUDIT] if self.client.app else None
        if isinstance(recorder, AuditRecorder):
            await recorder.flush()

    async def create(self, secret: str = "a secret", **fields: object) -> Any:
        """Create a secret and return the answer."""
        status, answer = await self.call("POST", "/generate", {"secret": secret, **fields})

        assert (201, 43) == (status, len(answer["secret_key"]))
        return answer

    async def open(self, secret_key: str, **fields: object) -> tuple[int, Any]:
        """Open a secret."""
        return await self.call("POST", f"/secrets/{secret_key}", fields or None)

    async def state(self, receipt_key: str) -> str:
        """Return the state that a receipt tells."""
        _, answer = await self.call("GET", f"/receipts/{receipt_key}")
        return str(answer["state"])

    async def register(self, username: str = "ann", password: str = PASSWORD) -> Any:
        """Make an account and return the answer."""
        status, answer = await self.call("POST", "/register", {"username": username, "password": password})

        assert 201 == status
        return answer

    async def login(self, username: str = "ann", password: str = PASSWORD) -> Any:
        """Begin a session and return its tokens."""
        status, answer = await self.call("POST", "/login", {"username": username, "password": password})

        assert 200 == status
        return answer

    async def sign_up(self, username: str = "ann", password: str = PASSWORD) -> str:
        """Make an account, sign in and return the access token."""
        await self.register(username, password)
        return str((await self.login(username, password))["access_token"])

    @property
    def items(self) -> Any:
        """The collection of items."""
        return self.mongo.collection("items")


SHARED: dict[bool, Api] = {}
"""The servers that tests of this process share, by whether they are behind nginx."""


@pytest.fixture(scope="session")
def mongo_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data directory of this test process: one mongod could not open the files of all tests' databases."""
    # No test takes the power away, and making two dozen files for each is what takes longest on a disk.
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM:
        with tempfile.TemporaryDirectory(prefix="sealpost-tests-", dir=MEMORY) as memory:
            ensure_key_file(Path(memory) / KEY_FILE)
            yield Path(memory)
    else:
        directory = tmp_path_factory.mktemp("sealpost-data")
        ensure_key_file(directory / KEY_FILE)
        yield directory


@pytest.fixture(scope="session")
def mongo_url(mongo_directory: Path) -> Iterator[str]:
    """A real MongoDB, for all tests of this process."""
    with embedded_mongod(mongo_directory) as url:
        yield url


@pytest.fixture(scope="session")
def databases(mongo_url: str) -> Iterator[Databases]:
    """The databases of this process's servers."""
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        databases = Databases(client)
        yield databases

        # Whoever changes indexes names a database for itself: serve(mongo_database=...).
        assert [] == databases.changed()


@pytest.fixture
def unused_tcp_port() -> int:
    """A free port, which no other test gets: that of pytest-asyncio may be taken before the test uses it."""
    return free_port()


@pytest.fixture(scope="session")
def unused_tcp_port_factory() -> Callable[[], int]:
    """Return further free ports."""
    return free_port


@pytest.fixture
def bare_mongod(tmp_path: Path, unused_tcp_port: int) -> Iterator[str]:
    """A mongod that is to be a replica set and that nobody has initiated; yields its host and port."""
    command: list[Any] = [find_mongod(None), "--dbpath", tmp_path, "--port", unused_tcp_port, "--replSet", "rs"]
    command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--oplogSize", 10, "--logpath", tmp_path / "log"]
    # It sweeps what has expired every second, not every minute.
    command += ["--setParameter", "ttlMonitorSleepSecs=1", "--networkMessageCompressors", "disabled"]
    with subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL) as process:
        yield f"127.0.0.1:{unused_tcp_port}"
        process.terminate()


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    """Make settings that lean on nothing outside the test, with a database and a key of their own."""

    def make(**overrides: Any) -> Settings:
        defaults = {
            "mongo_database": f"test-{secrets.token_hex(8)}",
            "keys": new_key(),
            "mongo_driver": DRIVER,
            "bcrypt_cost": 4,
            "argon2_memory_kib": 64,
            "rate_limits": "off",
            "gathered_file": "off",
            **PATIENT,
        }
        return Settings(_env_file=None, **{**defaults, **overrides})

    return make


async def start(settings: Settings, url: str, *, behind_nginx: bool = False, **options: Any) -> Api:
    """Start a server, with options of `build_app`, and return it when it has set its database up.

    Its client connects to a TCP port or, as nginx does, to a unix socket.
    """
    app = await build_app(settings, url, **options)
    server = TestServer(app)
    if behind_nginx:
        directory = tempfile.TemporaryDirectory(prefix="sealpost-")
        path = f"{directory.name}/worker.sock"
        client = TestClient(server, cookie_jar=DummyCookieJar(), connector=UnixConnector(path))

        async def clean_up(_: web.Application) -> None:
            directory.cleanup()

        app.on_cleanup.append(clean_up)
        await client.start_server()
        assert server.runner
        await web.UnixSite(server.runner, path).start()
    else:
        client = TestClient(server, cookie_jar=DummyCookieJar())
        await client.start_server()
    while not app[MONGO].is_set_up:
        if unfit := app[MONGO].unfit:
            await client.close()
            raise unfit
        await asyncio.sleep(0.01)
    return Api(client, app[MONGO], settings)


@pytest.fixture
async def serve(
    mongo_url: str,
    make_settings: Callable[..., Settings],
    databases: Databases,
    share: Callable[..., Awaitable[Api]],
) -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """Start servers with given settings; all of them end with the test, and nothing that they stored is left.

    A database that the test names is its own, and others are empty at first. They end before shared servers are emptied
    (hence ``share``): one with the same database stores its last events when it ends.
    """
    apis: list[Api] = []
    taken: set[str] = set()

    async def serve(
        url: str = mongo_url,
        *,
        behind_nginx: bool = False,
        worker: str = ALONE,
        batching: Batching | None = None,
        **overrides: Any,
    ) -> Api:
        # With other features, a server has other indexes, and so needs a database of its own.
        if url == mongo_url and not {"mongo_database", "features"} & overrides.keys():
            overrides["mongo_database"] = databases.take()
            taken.add(overrides["mongo_database"])
        settings = make_settings(**overrides)
        apis.append(await start(settings, url, behind_nginx=behind_nginx, worker=worker, batching=batching))
        return apis[-1]

    yield serve
    for api in apis:
        await api.client.close()
    for database in taken:
        databases.give_back(database)
    for database in {api.settings.mongo_database for api in apis} - databases.names:
        databases.drop(database)


@pytest.fixture(scope="session")
async def shared_servers(
    mongo_url: str, make_settings: Callable[..., Settings], databases: Databases
) -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """Start the servers with the default settings that all tests of this process use in turn, when they are needed."""
    apis = SHARED

    async def share(*, behind_nginx: bool = False) -> Api:
        if behind_nginx not in apis:
            settings = make_settings(mongo_database=databases.take())
            apis[behind_nginx] = await start(settings, mongo_url, behind_nginx=behind_nginx)
        return apis[behind_nginx]

    yield share
    for api in apis.values():
        await api.client.close()
        databases.give_back(api.settings.mongo_database)
    apis.clear()


async def seconds_accepted(ask: Callable[[], Awaitable[int]]) -> float:
    """Use an ended credential until its status is 401; return when the last accepted request was sent, in seconds.

    This does not depend on the speed of the machine: a worker accepts a credential by data that was read less than
    2 seconds ago. A slow one refuses it later, but accepts it no later.
    """
    ended = last = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while True:
            asked = time.monotonic()
            status = await ask()
            if status == 401:
                return last - ended
            if 0 < status < 500:
                last = asked
            await asyncio.sleep(0.01)


async def clocks_settle() -> None:
    """Wait until the shared servers have noticed that this process's clock is right again."""
    async with asyncio.timeout(PATIENCE):
        while any(api.mongo.clock.has_stepped or api.mongo.unfit for api in SHARED.values()):
            await asyncio.sleep(0.05)


@pytest.fixture
async def share(
    shared_servers: Callable[..., Awaitable[Api]], databases: Databases
) -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """Lend the test a server with the default settings that others have used, and none of their data.

    It is for whoever changes no more than what is stored: starting a server takes longer than most tests.
    """
    lent: dict[str, Api] = {}

    async def lend(*, behind_nginx: bool = False) -> Api:
        api = await shared_servers(behind_nginx=behind_nginx)
        lent[api.settings.mongo_database] = api
        return api

    yield lend
    for database, api in lent.items():
        # Later, its last events would appear in the next test.
        await api.store_events()
        # The server checks its keys every minute. Without their check values, it would look for other keys in the data,
        # and refuse the requests of a minute if the test of that moment has put one there.
        databases.empty(database, keys=read_key_ring(api.settings).key_ids)


@pytest.fixture
def own_database() -> str:
    """The name of a database for a test that changes its indexes."""
    return f"test-{secrets.token_hex(8)}"


@pytest.fixture
async def api(share: Callable[..., Awaitable[Api]]) -> Api:
    """A server with the default settings."""
    return await share()


@pytest.fixture
def client(api: Api) -> "TestClient[web.Request, web.Application]":
    """The HTTP client of a server with the default settings."""
    return api.client
