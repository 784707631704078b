"""A replica set of 3 members, some of which tests freeze."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from bench.running_stack import free_ports
from src.core.database.embedded import find_mongod

PATIENCE = 60.0
STEADY = 60_000
"""Milliseconds for which a primary without a majority keeps its place: longer than any test freezes the others."""


class Replicas:
    """The members; the first is made primary, and remains so while the others are frozen."""

    def __init__(self, directory: Path) -> None:
        self._ports = free_ports(3)
        self._directory = directory
        self._processes: list[subprocess.Popen[bytes]] = []
        self.url = f"mongodb://{','.join(self._addresses)}/?replicaSet=rs0"

    @property
    def primary_url(self) -> str:
        """The URL of the first member alone."""
        return _direct(self._addresses[0])

    def start(self) -> None:
        for port in self._ports:
            path = self._directory / str(port)
            path.mkdir()
            command: list[Any] = [find_mongod(None), "--dbpath", path, "--port", port, "--replSet", "rs0"]
            command += ["--bind_ip", "127.0.0.1", "--nounixsocket", "--oplogSize", 16, "--wiredTigerCacheSizeGB", 0.25]
            command += ["--networkMessageCompressors", "disabled", "--logpath", path / "log"]
            # In a session of its own: the terminal's Ctrl-C ends the tests, and they end it.
            process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, start_new_session=True)
            self._processes.append(process)
        members = [
            {"_id": number, "host": address, "priority": 0 if number else 1}
            for number, address in enumerate(self._addresses)
        ]
        config: dict[str, Any] = {"_id": "rs0", "members": members, "settings": {"electionTimeoutMillis": 1000}}
        for address in self._addresses:
            with _connect(address) as client:
                client.admin.command("ping")  # a set can be initiated only if all of its members answer
        with _connect(self._addresses[0]) as client:
            client.admin.command("replSetInitiate", config)
            self._await_all(client)
            config |= {"version": 2, "settings": {"electionTimeoutMillis": STEADY}}
            client.admin.command("replSetReconfig", config)

    def signal_secondaries(self, number: signal.Signals) -> None:
        for process in self._processes[1:]:
            process.send_signal(number)

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait(PATIENCE)

    @property
    def _addresses(self) -> list[str]:
        return [f"127.0.0.1:{port}" for port in self._ports]

    @staticmethod
    def _await_all(client: MongoClient[dict[str, Any]]) -> None:
        """Wait until the first member is primary and the others are secondaries."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                states = [member["stateStr"] for member in client.admin.command("replSetGetStatus")["members"]]
            except PyMongoError:
                states = []
            if states == ["PRIMARY", "SECONDARY", "SECONDARY"]:
                return
            assert time.monotonic() < deadline, states
            time.sleep(0.1)


def _direct(address: str) -> str:
    return f"mongodb://{address}/?directConnection=true"


def _connect(address: str) -> MongoClient[dict[str, Any]]:
    return MongoClient(_direct(address), serverSelectionTimeoutMS=PATIENCE * 1000)
