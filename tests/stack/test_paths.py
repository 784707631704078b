"""The stack in directories with any name, or a clear error."""

import json
import os
import shutil
import signal
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from bench.running_stack import ROOT, free_port, free_ports

from ..processes import PATIENCE
from .conftest import PROBE
from .test_lifecycle import processes, run_launcher

pytestmark = pytest.mark.stack

STRANGE = "it's 100% %(x)s %d #1; {a}, =ü~ `b` & <c> |*?!"
"""Every character that a shell, an .ini file or nginx could take for its own, but for those that are refused."""


def post(url: str, path: str, body: dict[str, str]) -> dict[str, str]:
    connection = HTTPConnection(url.partition("://")[2], timeout=PATIENCE)
    connection.request("POST", path, json.dumps(body))
    told: dict[str, str] = json.load(connection.getresponse())
    connection.close()
    return told


def test_everything_works_in_directories_of_any_name(tmp_path: Path) -> None:
    """Paths of clone, data and logs may contain spaces, quotes, per cent signs and the like."""
    clone = tmp_path / STRANGE
    for name in ("src", "confs"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEALPOST_")}
    environment = {
        **inherited,
        "PYTHONPATH": str(clone),
        "SEALPOST_DATA_DIR": f"{STRANGE} data",
        "SEALPOST_RATE_LIMITS": "off",
        # Variables of other programs may have any value.
        "PS1": "100% %(here)s %",
    }
    http, https = map(str, free_ports(2))
    command = [sys.executable, "-m", "src.stack", "--port", http, "--tls-port", https, "--log-dir", f"{STRANGE} logs"]
    with subprocess.Popen(command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True) as launcher:
        try:
            assert launcher.stdout is not None
            said = launcher.stdout.readline()
            url = said.split()[4]
            key = post(url, "/generate", {"secret": "kept"})["secret_key"]
            opened = post(url, f"/secrets/{key}", {})["secret"]
            restarted = subprocess.run(
                [sys.executable, "-m", "src.manage", "restart"],
                cwd=clone,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=PATIENCE,
            )
        finally:
            launcher.send_signal(signal.SIGTERM)
    logs = {path.name for path in (clone / f"{STRANGE} logs").iterdir()}

    assert "Sealpost is ready on" in said
    assert opened == "kept"
    assert (restarted.returncode, restarted.stderr.count("is ready")) == (0, 4), restarted.stderr
    assert {"worker-1.jsonl", "worker-4.err", "supervisord.log", "access.jsonl"} <= logs
    assert launcher.returncode == 0
    assert processes(tmp_path) == []


@pytest.mark.parametrize("character", ["$", '"', "\\", "\n", "\udce4"])
def test_a_path_that_nginx_cannot_use_is_refused(tmp_path: Path, character: str) -> None:
    """One sentence names the path and the character, and nothing is created."""
    for setting, arguments in ({"SEALPOST_DATA_DIR": f"a{character}b"}, ()), ({}, ("--log-dir", f"a{character}b")):
        code, message = run_launcher(tmp_path, *arguments, **setting)

        assert code == 1
        assert f"because it contains {character!r}" in message
        assert len(message.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []


def test_a_path_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    """A name that is too long, a file in place of a directory, and a TMPDIR that is too long for sockets."""
    (tmp_path / "file").touch()
    long = tmp_path / ("long" * 30)
    long.mkdir()
    port = ("--port", str(free_port()))
    refusals = [
        run_launcher(tmp_path, *port, "--log-dir", "n" * 300),
        run_launcher(tmp_path, *port, SEALPOST_DATA_DIR="file"),
        run_launcher(tmp_path, *port, SEALPOST_DATA_DIR=str(long), TMPDIR=str(long)),
    ]

    assert [(1, 1)] * 3 == [(code, len(message.splitlines())) for code, message in refusals]
    assert "File name too long" in refusals[0][1]
    assert "file" in refusals[1][1]
    assert "too long for a unix socket. Set TMPDIR" in refusals[2][1]


def test_workers_that_never_start_end_the_stack(tmp_path: Path) -> None:
    """The launcher prints the worker's error and exits with a failure."""
    (tmp_path / "broken.py").write_text("raise SystemExit('this worker is broken')\n")
    code, message = run_launcher(
        tmp_path,
        "--port",
        str(free_port()),
        **{**PROBE, "APP_MODULE": "broken", "PYTHONPATH": os.pathsep.join((str(ROOT), str(tmp_path)))},
    )

    assert code == 1
    assert "exits repeatedly" in message
    assert message.strip().endswith("this worker is broken")
    assert processes(tmp_path) == []
