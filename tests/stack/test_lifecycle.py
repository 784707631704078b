"""How the stack starts and stops, and ends with its launcher."""

import asyncio
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest

from bench.running_stack import ROOT, RunningStack, running_stack
from src.stack import launcher
from src.stack.launcher import StackError, run_directory

from ..processes import PATIENCE
from .conftest import PROBE, session
from .test_metrics import scrape
from .traffic import open_secret

pytestmark = pytest.mark.stack

HURRIED_SECONDS = 7.0


def processes(directory: Path) -> list[str]:
    """List the processes whose working directory is in a directory: all of a stack."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(directory):
                found.append((entry / "cmdline").read_text().replace("\0", " "))
    return found


def wait_until_gone(directory: Path) -> list[str]:
    deadline = time.monotonic() + PATIENCE
    while (left := processes(directory)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def is_free(url: str) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) != 0


def core_limits(directory: Path) -> set[int]:
    """Return the core dump limits, in bytes, of the processes in a working directory."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(directory):
                found |= set(resource.prlimit(int(entry.name), resource.RLIMIT_CORE))
    return found


def probe_stack(directory: Path, **settings: str) -> AbstractContextManager[RunningStack]:
    environment = {**PROBE, "SEALPOST_RATE_LIMITS": "off", **settings}
    return running_stack(
        data_dir=directory, log_dir=directory / "logs", app_module="tests.stack.probe", environment=environment
    )


def test_a_signal_ends_all_of_it_but_the_data(tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM stop every process, with exit code 0 and the port free; the next run finds the data."""

    async def ask(stack: RunningStack, path: str, body: dict[str, str]) -> dict[str, str]:
        async with session(stack) as client, client.post(path, json=body) as response:
            answer: dict[str, str] = await response.json()
            return answer

    with running_stack(data_dir=tmp_path, log_dir=tmp_path / "logs") as stack:
        running = " ".join(processes(tmp_path))
        key = asyncio.run(ask(stack, "/generate", {"secret": "kept"}))["secret_key"]

        # A dump would contain keys: 1 byte disables it, even if the kernel pipes dumps to a program.
        assert core_limits(tmp_path) <= {0, 1}
        assert all(name in running for name in ("nginx: master", "nginx: worker", "supervisord", "src.app", "mongod"))
        assert stack.end(signal.SIGINT) == 0
        assert processes(tmp_path) == []
        assert is_free(stack.url)
    with running_stack(data_dir=tmp_path, log_dir=tmp_path / "logs") as stack:
        assert asyncio.run(ask(stack, f"/secrets/{key}", {}))["secret"] == "kept"
        counts = asyncio.run(scrape(stack)).requests()
        assert {"/secrets/{secret_key}": 1, "/generate": 0} == {
            route: counts.get(("POST", route, "2xx"), 0) for route in ("/secrets/{secret_key}", "/generate")
        }
        assert stack.end(signal.SIGTERM) == 0
        assert processes(tmp_path) == []
        assert is_free(stack.url)


@pytest.mark.timed
def test_a_second_signal_hurries_and_leaves_nothing(tmp_path: Path) -> None:
    """A second Ctrl-C stops it without waiting for requests, and no process remains.

    That takes 1 second for nginx, and 1 for supervisord; the first alone waits 8 seconds for the request. The machine
    has 3 tries, so that a pause of its own is no failure.
    """
    seconds: list[float] = []
    while len(seconds) < 3 and min(seconds, default=HURRIED_SECONDS) >= HURRIED_SECONDS:
        with probe_stack(tmp_path) as stack:
            with socket.create_connection(("127.0.0.1", int(stack.url.rpartition(":")[2]))) as client:
                client.sendall(b"GET /?sleep=30 HTTP/1.1\r\nHost: a\r\n\r\n")
                time.sleep(1)
                stack.launcher.send_signal(signal.SIGINT)
                time.sleep(0.5)
                begun = time.monotonic()

                assert stack.end(signal.SIGINT) == 0
            seconds.append(time.monotonic() - begun)
            assert processes(tmp_path) == []

    assert min(seconds) < HURRIED_SECONDS


def test_the_stack_does_not_outlive_a_killed_launcher(tmp_path: Path) -> None:
    """After kill -9, nginx and the workers exit by themselves, the port is free, and a new stack starts."""
    with probe_stack(tmp_path) as stack:
        stack.end(signal.SIGKILL)

        assert wait_until_gone(tmp_path) == []
        assert is_free(stack.url)
    with probe_stack(tmp_path):
        assert len(processes(tmp_path)) > 6


def kill(directory: Path, victim: str) -> None:
    """Kill the processes with this name and working directory."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cwd").readlink().is_relative_to(directory) and victim in (entry / "cmdline").read_text():
                os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.parametrize("victim", ["nginx: master", "supervisord"])
def test_a_part_that_dies_ends_all_of_it(tmp_path: Path, victim: str) -> None:
    """A stack with a missing part would look alive; instead it exits with an error."""
    with probe_stack(tmp_path) as stack:
        kill(tmp_path, victim)

        assert stack.launcher.wait(PATIENCE) == 1
        assert processes(tmp_path) == []
        assert is_free(stack.url)


def test_a_killed_mongod_is_restarted(tmp_path: Path) -> None:
    """The same workers continue with the same data, without a manual restart."""

    async def kill_and_open(stack: RunningStack) -> tuple[int, str]:
        async with session(stack) as client:
            async with client.post("/generate", json={"secret": "kept"}) as response:
                key = (await response.json())["secret_key"]
            kill(tmp_path, "--replSet")
            async with asyncio.timeout(PATIENCE):
                while (opened := await open_secret(client, key)).status == 503:
                    await asyncio.sleep(0.2)
        return opened.status, opened.body.get("secret", "")

    with running_stack(data_dir=tmp_path, log_dir=tmp_path / "logs") as stack:
        workers = stack.worker_pids()

        assert (200, "kept") == asyncio.run(kill_and_open(stack))
        assert workers == stack.worker_pids()
        assert 0 == stack.end()
        assert processes(tmp_path) == []


def test_the_access_log_is_rotated_and_loses_no_line(tmp_path: Path) -> None:
    """A log over the size is rotated, and every request has exactly one line."""
    count = 300

    async def ask(stack: RunningStack) -> None:
        async with session(stack) as client:
            for number in range(count):
                async with client.get("/generate") as response:
                    assert response.status == 200
                if number % 100 == 0:
                    await asyncio.sleep(1.3)

    with probe_stack(tmp_path, SEALPOST_LOG_MAX_BYTES="10000") as stack:
        asyncio.run(ask(stack))
    logs = list((tmp_path / "logs").glob("access.jsonl*"))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]

    assert len(logs) > 1
    assert sum(line["route"] == "/generate" for line in lines) == count
    assert {log.stat().st_mode & 0o777 for log in logs} == {0o600}


@contextmanager
def occupied_port() -> Iterator[int]:
    with socket.socket() as occupant:
        occupant.bind(("127.0.0.1", 0))
        occupant.listen()
        yield occupant.getsockname()[1]


def run_launcher(directory: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        **PROBE,
        "SEALPOST_DATA_DIR": ".data",
        **settings,
    }
    command = [sys.executable, "-m", "src.stack", *arguments]
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
    )
    return done.returncode, done.stderr


def test_an_occupied_port_is_reported_before_the_start(tmp_path: Path) -> None:
    """The message names the address and the remedy, and nothing is created."""
    with occupied_port() as port:
        code, message = run_launcher(tmp_path, "--port", str(port))

    assert code == 1
    assert f"127.0.0.1:{port}" in message
    assert "PORT=" in message
    assert list(tmp_path.iterdir()) == []


def test_invalid_settings_are_named(tmp_path: Path) -> None:
    """The stack does not start with a misspelt setting or one out of range."""
    code, message = run_launcher(tmp_path, SEALPOST_RATE_OPEN="fast", SEALPOST_KEY="x")

    assert code == 1
    assert "SEALPOST_KEY: no such setting" in message
    assert list(tmp_path.iterdir()) == []


def test_a_second_stack_on_the_same_data_is_refused(tmp_path: Path) -> None:
    """Two stacks would replace each other's sockets."""
    with probe_stack(tmp_path):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        code, message = run_launcher(tmp_path, "--port", str(port), SEALPOST_DATA_DIR=str(tmp_path))

    assert code == 1
    assert "A stack is running" in message


def test_a_missing_nginx_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(launcher, "_SBIN", ())
    with pytest.raises(StackError, match="apt-get install nginx"):
        launcher._find_nginx()


def test_a_long_data_directory_moves_the_sockets(tmp_path: Path) -> None:
    """The path of a socket is limited to 107 bytes: the stack still runs, with an equally private directory."""
    data_dir = tmp_path / ("long" * 30)
    with probe_stack(data_dir) as stack:
        assert not stack.run_dir.is_relative_to(tmp_path)
        assert stack.run_dir.stat().st_mode & 0o777 == 0o700
        assert run_directory(data_dir) == stack.run_dir
    for path in sorted(stack.run_dir.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    stack.run_dir.rmdir()


def test_a_run_directory_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    """Its owner could place sockets in it."""
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(StackError, match="0700"):
        run_directory(tmp_path)
