"""`make bench-hostile`: p99 of `GET /hello` with and without hostile clients, on one stack.

The hostile clients are those of the tests: 4 at a time send the bodies that cost most to refuse. The exit code is 1 if
an answer was wrong. The ratio has no bound, because the hostile clients compete for the same cores.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO, cast

from .latency import Latencies, measure_latencies
from .machine import has_programs, write_result
from .running_stack import RunningStack, running_stack

PATH = "/hello"
PAUSE = 0.01
HEADS = ("round", "measured", "requests", "p50 ms", "p99 ms", "errors")


@dataclass(frozen=True)
class Figure:
    """Latencies of `GET /hello` in one phase of a round; ``errors`` counts wrong answers, to hostile clients too."""

    clients: str
    requests: int
    p50_ms: float
    p99_ms: float
    errors: int


def measure_alone(running: RunningStack, seconds: float) -> Figure:
    """Measure for some seconds without other clients."""
    until = time.monotonic() + seconds
    return _figure("alone", measure_latencies(running.url, PATH, PAUSE, lambda: time.monotonic() > until))


def measure_with_hostile_clients(running: RunningStack) -> Figure:
    """Measure while the hostile clients send every body once."""
    address = running.url.removeprefix("http://").split(":")
    with subprocess.Popen(
        [sys.executable, "-m", "tests.stack.hostile", *address],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    ) as hostile:
        output = cast("IO[str]", hostile.stdout)
        output.readline()  # written when it begins to send
        latencies = measure_latencies(running.url, PATH, PAUSE, lambda: hostile.poll() is not None)
        statuses = json.loads(output.read())["statuses"] if hostile.returncode == 0 else {"0": 1}
    failed = sum(count for status, count in statuses.items() if not 0 < int(status) < HTTPStatus.INTERNAL_SERVER_ERROR)
    return _figure("hostile", latencies, failed)


def _figure(clients: str, latencies: Latencies, failed: int = 0) -> Figure:
    requests, errors = len(latencies.milliseconds), latencies.errors + failed
    return Figure(clients, requests, round(latencies.p50_ms, 2), round(latencies.p99_ms, 2), errors)


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description="Measure what hostile bodies cost.")
    parser.add_argument("--seconds", type=int, default=8, help="seconds of each measurement without them (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="how often both are measured (default 3)")
    options = parser.parse_args()
    if not has_programs("nginx"):
        return 2
    print(("{:<8}{:<10}" + "{:>10}" * 4).format(*HEADS))
    figures = []
    with tempfile.TemporaryDirectory(prefix="sealpost-bench-") as directory:
        data_dir, log_dir = Path(directory) / "data", Path(directory) / "logs"
        environment = {"SEALPOST_RATE_LIMITS": "off"}
        with running_stack(data_dir=data_dir, log_dir=log_dir, environment=environment) as running:
            measure_alone(running, 1)  # warms up
            for number in range(1, options.rounds + 1):
                for figure in (measure_alone(running, options.seconds), measure_with_hostile_clients(running)):
                    figures.append(figure)
                    print(
                        f"{number:<8}{figure.clients:<10}{figure.requests:>10}{figure.p50_ms:>10.1f}"
                        f"{figure.p99_ms:>10.1f}{figure.errors:>10}",
                        flush=True,
                    )
    alone, hostile = (statistics.median(figure.p99_ms for figure in figures[phase::2]) for phase in (0, 1))
    print(
        f"p99 of GET {PATH}: {hostile:.1f} ms with hostile clients, {alone:.1f} ms without, ratio {hostile / alone:.1f}"
    )
    ratio = round(hostile / alone, 2)
    write_result({"figures": [asdict(figure) for figure in figures], "ratio_of_p99": ratio}, "hostile-")
    return 1 if any(figure.errors for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
