"""A cluster of 3 MongoDB members and 2 application hosts."""

import asyncio
import base64
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any

import aiohttp
from pymongo import MongoClient
from pymongo.errors import AutoReconnect, PyMongoError

from src.core.database.embedded import find_mongod
from src.stack.replica_set import _TIMES

from ..processes import PATIENCE, ROOT
from .network import Network, Node

MEMBERS = ("db1", "db2", "db3")
HOSTS = ("app1", "app2")
_PORT = 27017
_PRIMARY, _SECONDARY = 1, 2
_SETTINGS = {
    "SEALPOST_RATE_LIMITS": "off",
    "SEALPOST_GATHERED_FILE": "off",
    "SEALPOST_BCRYPT_COST": "4",
    "SEALPOST_ARGON2_MEMORY_KIB": "64",
    "SEALPOST_ARGON2_PASSES": "1",
}


class NamespacedProcess:
    """A process in a network namespace, which faults pause, kill and restart."""

    def __init__(self, node: Node, command: list[str], environment: dict[str, str], output: Path) -> None:
        self.node = node
        self.output = output
        self._command = command
        self._environment = environment
        self._process: Process | None = None

    async def start(self) -> None:
        """Start the process."""
        with self.output.open("ab") as file:
            self._process = await asyncio.create_subprocess_exec(
                *self.node.command(*self._command),
                stdin=DEVNULL,
                stdout=file,
                stderr=file,
                cwd=ROOT,
                env={**os.environ, **self._environment},
            )

    @property
    def pid(self) -> int:
        """The id of the process, which was started."""
        assert self._process
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process
        self._process.send_signal(number)

    async def kill(self) -> None:
        """Kill the process, unless it has ended."""
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


class Member(NamespacedProcess):
    """A mongod. The test connects to its unix socket, which network faults do not affect."""

    def __init__(self, node: Node, directory: Path) -> None:
        database = directory / "db"
        database.mkdir(parents=True)
        options = {
            "dbpath": database,
            "unixSocketPrefix": directory,
            "bind_ip": f"127.0.0.1,{node.address}",
            "port": _PORT,
            "replSet": "rs0",
            "oplogSize": 64,
            "wiredTigerCacheSizeGB": 0.25,
            "networkMessageCompressors": "disabled",
        }
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        arguments += ["--setParameter", "ttlMonitorSleepSecs=5"]
        arguments += ["--setParameter", "diagnosticDataCollectionEnabled=false"]
        super().__init__(node, [str(find_mongod(None)), *arguments], {}, directory / "log")
        self._socket = directory / f"mongodb-{_PORT}.sock"

    @property
    def address(self) -> str:
        """Address for the other hosts."""
        return f"{self.node.address}:{_PORT}"

    def command(self, name: str, **options: Any) -> dict[str, Any]:
        """Run a command. Raises `PyMongoError`."""
        url = f"mongodb://{str(self._socket).replace('/', '%2F')}/?directConnection=true"
        with MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=1000, socketTimeoutMS=15_000) as client:
            return client.admin.command(name, options.pop("value", 1), **options)


class Host(NamespacedProcess):
    """An application host: a process that serves a unix socket, as it does behind nginx."""

    def __init__(self, node: Node, directory: Path, environment: dict[str, str], name: str = "") -> None:
        directory.mkdir(exist_ok=True)
        self.name = name or node.name
        self.socket = directory / f"{self.name}.sock"
        command = [sys.executable, "-m", "src.app", "-U", str(self.socket)]
        super().__init__(node, command, environment, directory / f"{self.name}.log")

    def session(self, **options: Any) -> aiohttp.ClientSession:
        """Return an HTTP client session."""
        connector = aiohttp.UnixConnector(str(self.socket), limit=0)
        return aiohttp.ClientSession(f"http://{self.name}", connector=connector, **options)

    async def readiness(self) -> tuple[int | None, str]:
        """Return the status and the text of `/readyz`; None and an empty text if there is no response."""
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with self.session(timeout=aiohttp.ClientTimeout(15)) as session, session.get("/readyz") as answer:
                return answer.status, await answer.text()
        return None, ""

    async def wait_until_ready(self) -> None:
        """Wait until `/readyz` returns 200."""
        async with asyncio.timeout(PATIENCE):
            while (await self.readiness())[0] != 200:
                await asyncio.sleep(0.1)


class Cluster:
    """A replica set, and the hosts that use it."""

    def __init__(
        self,
        network: Network,
        directory: Path,
        *,
        members: Collection[str] = MEMBERS,
        hosts: Collection[str] = HOSTS,
    ) -> None:
        self.network = network
        self.directory = directory
        self.members = {name: Member(network.nodes[name], directory / name) for name in members}
        addresses = ",".join(member.address for member in self.members.values())
        self.url = f"mongodb://{addresses}/?replicaSet=rs0"
        self.environment = {
            **_SETTINGS,
            "SEALPOST_MONGO_URL": self.url,
            "SEALPOST_KEYS": "test:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "SEALPOST_DATA_DIR": str(directory / "data"),
        }
        self.hosts = {name: Host(network.nodes[name], directory / name, self.environment) for name in hosts}

    async def start(self) -> None:
        """Start all processes, and wait until they are ready."""
        for member in self.members.values():
            await member.start()
        await self._initiate()
        await self.primary()
        for host in self.hosts.values():
            await host.start()
        for host in self.hosts.values():
            await host.wait_until_ready()

    async def stop(self) -> None:
        """Kill all processes."""
        for running in [*self.hosts.values(), *self.members.values()]:
            await running.kill()

    async def primary(self) -> Member:
        """Wait until each member is the primary or a secondary, and return the primary."""
        async with asyncio.timeout(PATIENCE):
            while True:
                states = [await self._state(member) for member in self.members.values()]
                if sorted(states) == [_PRIMARY, *[_SECONDARY] * (len(states) - 1)]:
                    return list(self.members.values())[states.index(_PRIMARY)]
                await asyncio.sleep(0.2)

    async def manage(self, *arguments: str) -> None:
        """Run an operator's command."""
        command = self.network.nodes[HOSTS[0]].command(sys.executable, "-m", "src.manage", *arguments)
        environment = {**os.environ, **self.environment}
        await asyncio.to_thread(
            subprocess.run, command, check=True, cwd=ROOT, env=environment, capture_output=True, timeout=PATIENCE
        )

    async def step_down(self) -> None:
        """Make the primary step down."""
        primary = await self.primary()
        with contextlib.suppress(AutoReconnect):
            await asyncio.to_thread(primary.command, "replSetStepDown", value=20, secondaryCatchUpPeriodSecs=10)

    async def _initiate(self) -> None:
        members = [{"_id": number, "host": member.address} for number, member in enumerate(self.members.values())]
        configuration = {"_id": "rs0", "members": members, "settings": _TIMES}
        first = next(iter(self.members.values()))
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await asyncio.to_thread(first.command, "replSetInitiate", value=configuration)
                except PyMongoError:
                    await asyncio.sleep(0.2)
                else:
                    break
        # Without this, the first election starts only after the election timeout.
        while await self._state(first) != _PRIMARY:
            with contextlib.suppress(PyMongoError):
                await asyncio.to_thread(first.command, "replSetStepUp")
            await asyncio.sleep(0.2)

    @staticmethod
    async def _state(member: Member) -> int:
        try:
            return int((await asyncio.to_thread(member.command, "replSetGetStatus"))["myState"])
        except PyMongoError:
            return 0


@contextlib.asynccontextmanager
async def running_cluster(
    network: Network, directory: Path, *, members: Collection[str] = MEMBERS, hosts: Collection[str] = HOSTS
) -> AsyncIterator[Cluster]:
    """Run a cluster until the block ends, and remove it."""
    cluster = Cluster(network, directory, members=members, hosts=hosts)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
        shutil.rmtree(directory, ignore_errors=True)
