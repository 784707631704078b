"""One run of wrk: its requests and its measurement."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .processor_time import processor_time

SCRIPT = Path(__file__).with_suffix(".lua")
THREADS = 2


@dataclass(frozen=True)
class Load:
    """The requests of a run: ``body`` to ``path``, or to ``path`` plus the next key of a file, with a Bearer token.

    The run ends when all keys have been used once, unless it repeats them.

    A 503 with Retry-After and ``refusal`` in its text counts as refused, not as wrong.
    """

    method: str
    path: str
    expect: int
    body: str = ""
    keys: Path | None = None
    token: str = ""
    refusal: str = ""
    repeats_keys: bool = False


@dataclass(frozen=True)
class Measurement:
    """The measurement of a load: requests served per second, and latencies in milliseconds.

    ``unexpected`` counts responses with another status. ``refused`` responses count in the latencies, but are neither
    served nor wrong. The processor time of workers, nginx and mongod is in microseconds for each request served.
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
    threads = min(THREADS, connections)
    command = ["wrk", "-t", threads, "-c", connections, "-d", f"{seconds}s", "--timeout", "20s", "-s", SCRIPT, url]
    # In a file, because an environment variable holds at most 128 KiB.
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as body:
        body.write(load.body)
        body.flush()
        before = processor_time(*pids)
        printed = subprocess.run(
            list(map(str, command)),
            env=_environment(load, threads, body.name),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used = processor_time(*pids) - before
    result = json.loads(printed.rpartition("RESULT ")[2])
    if result["ran_out"]:
        print(f"{name}: all keys were used before the end, so the rate is too low", file=sys.stderr)
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
        **used.microseconds_each(served),
    )


def _environment(load: Load, threads: int, body_file: str) -> Mapping[str, str]:
    return {
        **os.environ,
        "METHOD": load.method,
        "REQUEST_PATH": load.path,
        "BODY_FILE": body_file,
        "EXPECT": str(load.expect),
        "KEYS": str(load.keys or ""),
        "REPEATS_KEYS": "yes" if load.repeats_keys else "",
        "TOKEN": load.token,
        "REFUSAL": load.refusal,
        "THREADS": str(threads),
    }
