"""`make bench`: nginx, four workers and MongoDB on this machine under wrk.

Prints each figure beside its share of the floor (`GET /healthz` through the same stack in the same run), compares group
commit with one command per request, and phrase-protected openings with Argon2id alone. Writes all of it to
``bench/results/``. Absolute figures depend on the machine; the shares much less.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from src.core.embedded import embedded_mongod
from src.core.keys import KeyRing
from src.core.sealing import SALT_BYTES, Argon2Cost, derive_phrase_key
from src.settings import Settings
from src.stack.running import RunningStack, running_stack

from .fill import fill

HERE = Path(__file__).parent
THREADS = 2
CONNECTIONS = (32, 128)
PHRASE = "correct horse"
SECRET = json.dumps({"secret": "0123456789abcdef" * 2})
SECRET_WITH_PHRASE = json.dumps({"secret": "0123456789abcdef" * 2, "phrase": PHRASE})
OPENINGS_PER_SECOND = 8000
"""More keys are made than this machine can open, so that no run ends for want of keys."""
DERIVATIONS_PER_SECOND = 300


@dataclass(frozen=True)
class Load:
    """What wrk sends."""

    method: str
    path: str
    expect: int
    body: str = ""
    keys: Path | None = None


@dataclass(frozen=True)
class Figure:
    """What wrk measured: times in milliseconds, and how many answers had another status than expected."""

    name: str
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    unexpected: int
    socket_errors: int
    share_of_floor: float | None = None


HEALTH = Load("GET", "/healthz", 200)


class Bench:
    """One run: its figures, and the stack that they are taken from."""

    def __init__(self, seconds: int, data_dir: Path) -> None:
        self.seconds = seconds
        self.data_dir = data_dir
        self.figures: list[Figure] = []
        self._floors: dict[tuple[str, int], float] = {}

    def measure(self, stack: RunningStack, name: str, connections: int, load: Load) -> Figure:
        """Put the stack under a load, and note and print what came out."""
        figure = run_wrk(stack.url, name, connections, load, self.seconds)
        mode = name.partition(":")[0]
        if load == HEALTH:
            self._floors[mode, connections] = figure.per_second
        share = figure.per_second / self._floors[mode, connections]
        figure = Figure(**{**asdict(figure), "share_of_floor": round(share, 3)})
        self.figures.append(figure)
        print(
            f"{figure.name:<42}{connections:>5}{figure.per_second:>11,.0f}{figure.p50_ms:>10.1f}{figure.p99_ms:>10.1f}"
            f"{figure.unexpected + figure.socket_errors:>8}{share:>9.2f}",
            flush=True,
        )
        return figure

    def keys(self, count: int, phrase: str | None = None) -> Path:
        """Make secrets in the stack's database and return the file with their keys."""
        path = self.data_dir / "to-open"
        ring = KeyRing.parse((self.data_dir / "keys").read_text(encoding="ascii"))
        with embedded_mongod(self.data_dir) as mongo_url:
            keys = asyncio.run(fill(mongo_url, ring, count, phrase=phrase))
        path.write_text("\n".join(keys) + "\n", encoding="ascii")
        return path


def run_wrk(url: str, name: str, connections: int, load: Load, seconds: int) -> Figure:
    """Run wrk once."""
    printed = subprocess.run(
        [
            "wrk",
            "-t",
            str(THREADS),
            "-c",
            str(connections),
            "-d",
            f"{seconds}s",
            "--timeout",
            "20s",
            "-s",
            HERE / "wrk.lua",
            url,
        ],
        env=wrk_environment(load),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    result = json.loads(printed.rpartition("RESULT ")[2])
    return Figure(
        name,
        connections,
        round(result["requests"] / result["seconds"], 1),
        result["p50_ms"],
        result["p99_ms"],
        result["unexpected"],
        result["socket_errors"],
    )


def wrk_environment(load: Load) -> Mapping[str, str]:
    """Return the environment that tells wrk's script what to send."""
    return {
        **os.environ,
        "METHOD": load.method,
        "REQUEST_PATH": load.path,
        "BODY": load.body,
        "EXPECT": str(load.expect),
        "KEYS": str(load.keys or ""),
        "THREADS": str(THREADS),
    }


def argon2_alone(seconds: float) -> float:
    """Return the derivations per second that the machine's cores do with nothing else to do."""
    settings = Settings(_env_file=None)
    cost = Argon2Cost(settings.argon2_memory_kib, settings.argon2_passes)
    deadline = time.monotonic() + seconds

    def derive(_: int) -> int:
        count = 0
        while time.monotonic() < deadline:
            derive_phrase_key(PHRASE, bytes(SALT_BYTES), cost)
            count += 1
        return count

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        began = time.monotonic()
        return sum(pool.map(derive, range(cores))) / (time.monotonic() - began)


def measure_group_commit(bench: Bench, stack: RunningStack) -> None:
    """Measure the stack as it is."""
    for connections in CONNECTIONS:
        bench.measure(stack, "group: GET /healthz (the floor)", connections, HEALTH)
        bench.measure(stack, "group: POST /generate", connections, Load("POST", "/generate", 201, SECRET))
        keys = bench.keys(OPENINGS_PER_SECOND * bench.seconds)
        opening = Load("POST", "/secrets/", 200, keys=keys)
        bench.measure(stack, "group: POST /secrets/{key}", connections, opening)
        creating = Load("POST", "/generate", 201, SECRET_WITH_PHRASE)
        bench.measure(stack, "group: POST /generate with a phrase", connections, creating)


def measure_phrases(bench: Bench, stack: RunningStack) -> dict[str, float]:
    """Measure openings with a phrase against Argon2id alone, and the floor's latency meanwhile."""
    keys = bench.keys(DERIVATIONS_PER_SECOND * bench.seconds, phrase=PHRASE)
    opening = Load("POST", "/secrets/", 200, json.dumps({"phrase": PHRASE}), keys)
    before = argon2_alone(bench.seconds)
    with ThreadPoolExecutor(1) as pool:
        probing = pool.submit(run_wrk, stack.url, "healthz meanwhile", THREADS, HEALTH, max(bench.seconds - 2, 1))
        opened = bench.measure(stack, "group: POST /secrets/{key} with a phrase", CONNECTIONS[0], opening)
        meanwhile = probing.result()
    after = argon2_alone(bench.seconds)
    return {
        "argon2_alone_per_second": round((before + after) / 2, 1),
        "opened_per_second": opened.per_second,
        "share_of_argon2": round(opened.per_second / ((before + after) / 2), 3),
        "healthz_p99_ms_meanwhile": meanwhile.p99_ms,
    }


def measure_one_per_request(bench: Bench, stack: RunningStack) -> None:
    """Measure the same code with one MongoDB command per request."""
    connections = CONNECTIONS[-1]
    bench.measure(stack, "single: GET /healthz (the floor)", connections, HEALTH)
    bench.measure(stack, "single: POST /generate", connections, Load("POST", "/generate", 201, SECRET))
    keys = bench.keys(OPENINGS_PER_SECOND * bench.seconds)
    bench.measure(stack, "single: POST /secrets/{key}", connections, Load("POST", "/secrets/", 200, keys=keys))


def ratios(figures: list[Figure]) -> dict[str, float]:
    """Return what group commit gains over one command per request, at the most connections."""
    most = {figure.name: figure.per_second for figure in figures if figure.connections == CONNECTIONS[-1]}
    return {
        what: round(most[f"group: {request}"] / most[f"single: {request}"], 2)
        for what, request in (("creating", "POST /generate"), ("opening", "POST /secrets/{key}"))
    }


def main() -> int:
    """Run the bench and return the exit code: 1 where an answer was not what it should be."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=8, help="how long each measurement takes (default 8)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    options = parser.parse_args()
    for tool in ("wrk", "nginx"):
        if not shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin"):
            print(f"bench: {tool} is missing; install it with your package manager", file=sys.stderr)
            return 2
    environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
    print(f"{'':<42}{'conns':>5}{'per s':>11}{'p50 ms':>10}{'p99 ms':>10}{'errors':>8}{'of floor':>9}")
    with tempfile.TemporaryDirectory(prefix="sealpost-bench-") as name:
        directory = Path(name)
        bench = Bench(options.seconds, directory / "data")
        start = partial(running_stack, data_dir=bench.data_dir, log_dir=directory / "logs", environment=environment)
        with start() as stack:
            measure_group_commit(bench, stack)
            phrases = measure_phrases(bench, stack)
        with start(app_module="bench.single") as stack:
            measure_one_per_request(bench, stack)
    gains = ratios(bench.figures)
    print(f"group commit over one command per request: {gains}")
    print(f"phrases: {phrases}")
    result = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "driver": options.driver,
        "figures": [asdict(figure) for figure in bench.figures],
        "group_commit_over_one_per_request": gains,
        "phrases": phrases,
    }
    path = HERE / "results" / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path.relative_to(HERE.parent)}")
    return 1 if any(figure.unexpected + figure.socket_errors for figure in bench.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
