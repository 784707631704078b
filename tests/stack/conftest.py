"""The stacks that the tests share, and clients of them."""

import asyncio
import base64
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from bench.running_stack import RunningStack, running_stack

from ..processes import PATIENCE
from .mongod import Mongod

KEYS = "test:" + base64.b64encode(bytes(range(32))).decode()
# With escapes in it, which supervisord must not take for its own.
SETTINGS = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_ARGON2_MEMORY_KIB": "64", "SEALPOST_BCRYPT_COST": "4"}
PROBE = {"SEALPOST_MONGO_URL": "mongodb://us%40er:100%25@127.0.0.1:1/?replicaSet=none", "SEALPOST_KEYS": KEYS}


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mongod]:
    server = Mongod(tmp_path_factory.mktemp("mongodb"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def stack(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The real stack on a MongoDB that the tests own, with every limiter off."""
    directory = tmp_path_factory.mktemp("stack")
    environment = {"SEALPOST_MONGO_URL": mongod.url, "SEALPOST_KEYS": KEYS, **SETTINGS}
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def probes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Nginx before workers that do what a test asks for, with every limiter off."""
    directory = tmp_path_factory.mktemp("probes")
    environment = {**PROBE, "SEALPOST_RATE_LIMITS": "off", "SEALPOST_REQUEST_TIMEOUT": "1"}
    with running_stack(
        data_dir=directory, log_dir=directory / "logs", app_module="tests.stack.probe", environment=environment
    ) as running:
        yield running


@pytest.fixture
async def client(stack: RunningStack) -> AsyncIterator[ClientSession]:
    async with session(stack) as client:
        yield client


@pytest.fixture
async def prober(probes: RunningStack) -> AsyncIterator[ClientSession]:
    async with session(probes) as client:
        yield client


def session(running: RunningStack) -> ClientSession:
    return ClientSession(running.url, connector=TCPConnector(limit=0), timeout=ClientTimeout(total=60))


async def grep_logs(running: RunningStack, *needles: str) -> list[str]:
    """List the files of a stack, logs and all, that hold one of the texts."""
    # nginx writes out what it buffers when it opens its logs anew.
    os.kill(int((running.run_dir / "nginx.pid").read_text()), signal.SIGUSR1)
    await asyncio.sleep(0.3)
    found = []
    for path in (path for top in (running.log_dir, running.run_dir) for path in top.rglob("*") if path.is_file()):
        # A worker that is being restarted removes files.
        with suppress(FileNotFoundError):
            content = path.read_bytes()
            if any(needle.encode() in content for needle in needles):
                found.append(str(path))
    return found


async def until_logged(running: RunningStack, name: str, *needles: str) -> str:
    """Wait until a log of a stack has all of the texts, and return its content."""
    async with asyncio.timeout(PATIENCE):
        while not all(needle in (text := (running.log_dir / name).read_text()) for needle in needles):
            await grep_logs(running)
    return text
