"""The stack as a child process, for tests and benchmarks."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from secrets import SystemRandom

from src.core.supervisor import Supervisor
from src.stack.launcher import SUPERVISORD_CONF, run_directory

ROOT = Path(__file__).parents[1]
PORTS = range(10_000, 18_000)
"""Where free ports are chosen: the kernel gives others to connections and to port 0, and an embedded MongoDB takes one
from 20,000."""
_END_PATIENCE = 45.0  # seconds: the shutdown timeouts of nginx, the workers and MongoDB together


@dataclass(frozen=True)
class RunningStack:
    """A stack that serves ``url``, and its metrics at ``metrics_url``.

    With TLS it serves ``tls_url``, and ``url`` redirects there.
    """

    url: str
    metrics_url: str
    run_dir: Path
    log_dir: Path
    launcher: subprocess.Popen[str]
    tls_url: str | None = None

    def supervisorctl(self, *arguments: str) -> str:
        """Run a command of supervisorctl and return its output."""
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", str(SUPERVISORD_CONF), *arguments]
        # supervisord's configuration needs every variable that it names; supervisorctl uses only the first.
        variables = {"RUN_DIR": str(self.run_dir), "LOG_DIR": str(self.log_dir), "METRICS_DIR": "", "APP_MODULE": ""}
        return subprocess.run(
            command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        ).stdout

    def worker_pids(self) -> list[int]:
        """Return the process ids of worker 1, 2 and so on; 0 for a worker that is not running."""
        return [worker.pid for _, worker in sorted(Supervisor(self.run_dir).workers().items())]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal the launcher, wait until all processes have ended, and return its exit code."""
        self.launcher.send_signal(number)
        return self.launcher.wait(_END_PATIENCE)


@contextmanager
def running_stack(
    *,
    data_dir: Path,
    log_dir: Path,
    port: int | None = None,
    app_module: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RunningStack]:
    """Run the stack until the block ends; by default on a free port and on its own MongoDB.

    ``environment`` holds SEALPOST_… settings; those of this process and of ``.env`` are ignored. Raises `RuntimeError`
    if the stack does not start; its error message is on stderr.
    """
    free, tls_port, metrics_port = free_ports(3)
    port = port or free
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    has_tls = (environment or {}).get("SEALPOST_TLS", "off") != "off"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SEALPOST_")}
    ports = ["--port", str(port), "--tls-port", str(tls_port), "--metrics-port", str(metrics_port)]
    launcher = subprocess.Popen(
        [sys.executable, "-m", "src.stack", *ports, "--log-dir", str(log_dir.resolve())],
        cwd=data_dir,
        env={
            **inherited,
            "PYTHONPATH": str(ROOT),
            "SEALPOST_DATA_DIR": str(data_dir.resolve()),
            **({"APP_MODULE": app_module} if app_module else {}),
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if launcher.stdout is None or "is ready on" not in launcher.stdout.readline():
            raise RuntimeError("the stack did not start")
        yield RunningStack(
            f"http://127.0.0.1:{port}",
            f"http://127.0.0.1:{metrics_port}/metrics",
            run_directory(data_dir),
            log_dir,
            launcher,
            f"https://127.0.0.1:{tls_port}" if has_tls else None,
        )
    finally:
        launcher.terminate()
        try:
            launcher.wait(_END_PATIENCE)
        finally:
            launcher.kill()
            if launcher.stdout is not None:
                launcher.stdout.close()


def free_port() -> int:
    """Return a free TCP port of the loopback address."""
    return free_ports(1)[0]


def free_ports(count: int) -> list[int]:
    """Return different free TCP ports of the loopback address, which no other caller gets while this process runs.

    Raises `OSError` if there are none.
    """
    ports = SystemRandom().sample(PORTS, len(PORTS))
    found = list(islice(filter(_reserve, ports), count))
    if len(found) < count:
        raise OSError(errno.EADDRINUSE, "no free port")
    return found


def _reserve(port: int) -> bool:
    """Reserve a TCP port until this process ends, by its UDP port; return False if it is not free."""
    with socket.socket() as probe, socket.socket(type=socket.SOCK_DGRAM) as mark:
        try:
            mark.bind(("127.0.0.1", port))
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        mark.detach()
    return True
