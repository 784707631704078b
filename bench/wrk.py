"""One run of wrk: its requests and its measurement."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .processor_time import processor_time

SCRIPT = Path(__file__).with_suffix(".lua")
THREADS = 2


@dataclass(frozen=True)
class Load:
    """The requests of a run: ``body`` to ``path``, or to ``path`` plus the next key of a file, with a Bearer token.

    A 503 with Retry-After and ``refusal`` in its text counts as refused, not as wrong.
    """

    method: str
    path: str
    expect: int
    body: str = ""
    keys: Path | None = None
    token: str = ""
    refusal: str = ""


@dataclass(frozen=True)
class Measurement:
    """The measurement of a load: requests served per second, and latencies in milliseconds.

    ``unexpected`` counts responses with another status. ``refused`` responses count in the latencies, but are neither
    served nor wrong. The processor time of workers, nginx and mongod is in microseconds a request.
    """

    name: str
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    unexpected: int
    socket_errors: int
    refused: int
    worker_us: float = 0.0
    nginx_us: float = 0.0
    mongod_us: float = 0.0

    @property
    def errors(self) -> int:
        """The number of wrong and missing responses."""
        return self.unexpected + self.socket_errors


def run_wrk(
    url: str, name: str, connections: int, load: Load, seconds: int, *, pids: Sequence[int] = ()
) -> Measurement:
    """Run wrk once. The processor time is that of ``pids`` and their descendants."""
    before = processor_time(*pids)
    command = ["wrk", "-t", THREADS, "-c", connections, "-d", f"{seconds}s", "--timeout", "20s", "-s", SCRIPT, url]
    printed = subprocess.run(
        list(map(str, command)), env=_environment(load), capture_output=True, text=True, check=True
    ).stdout
    used = processor_time(*pids) - before
    result = json.loads(printed.rpartition("RESULT ")[2])
    served = result["requests"] - result["unexpected"] - result["refused"]
    return Measurement(
        name,
        connections,
        round(served / result["seconds"], 1),
        result["p50_ms"],
        result["p99_ms"],
        result["unexpected"],
        result["socket_errors"],
        result["refused"],
        **used.microseconds_each(result["requests"]),
    )


def _environment(load: Load) -> Mapping[str, str]:
    return {
        **os.environ,
        "METHOD": load.method,
        "REQUEST_PATH": load.path,
        "BODY": load.body,
        "EXPECT": str(load.expect),
        "KEYS": str(load.keys or ""),
        "TOKEN": load.token,
        "REFUSAL": load.refusal,
        "THREADS": str(THREADS),
    }
