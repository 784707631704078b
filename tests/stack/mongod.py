"""A MongoDB that tests stop, freeze and start again."""

import signal
import subprocess
from pathlib import Path

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from bench.running_stack import free_port
from src.core.database.embedded import find_mongod

PATIENCE_MS = 30_000


class Mongod:
    """One member of a replica set of one, which the workers initiate."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.url = f"mongodb://127.0.0.1:{self.port}/?replicaSet=rs0"
        self._command = [
            str(find_mongod(None)),
            "--dbpath",
            str(directory),
            "--port",
            str(self.port),
            "--replSet",
            "rs0",
        ]
        self._command += ["--bind_ip", "127.0.0.1", "--wiredTigerCacheSizeGB", "0.25"]
        self._command += ["--networkMessageCompressors", "disabled", "--setParameter", "ttlMonitorSleepSecs=5"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # In its own session: the terminal's Ctrl-C ends the tests, which stop it.
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, start_new_session=True)
        url = f"mongodb://127.0.0.1:{self.port}/?directConnection=true"
        with MongoClient[dict[str, object]](url, serverSelectionTimeoutMS=PATIENCE_MS) as client:
            client.admin.command("ping")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """End it as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(60)
        self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def dump(self) -> str:
        """Return every document of every collection as text."""
        with MongoClient[dict[str, object]](self.url, serverSelectionTimeoutMS=PATIENCE_MS) as client:
            texts = []
            for name in client.list_database_names():
                for collection in client[name].list_collection_names():
                    try:
                        texts += [repr(document) for document in client[name][collection].find()]
                    except PyMongoError:  # MongoDB's own views and the like
                        assert name in {"admin", "config", "local"}
            return "\n".join(texts)
