"""`make bench`: nginx, 4 workers and MongoDB on this machine under wrk.

Two stacks are measured in turns, one with group commit and one with a MongoDB command per request, and beside them bare
aiohttp behind a bare nginx, the floor; for phrases and logins the first stack runs alone.
Prints every measurement with its processor time a request, and the medians as ratios: to the floor, to one command per
request, for phrases to Argon2id alone, and for logins to bcrypt alone. Writes all of them to ``bench/results/``.
Absolute figures describe the machine; ratios describe the code, and those of processor time repeat best.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from bench.running_stack import RunningStack, running_stack
from src.accounts.passwords import check_password, hash_password
from src.core.crypto.hashing import REFUSAL
from src.core.crypto.sealing import SALT_BYTES, Argon2Cost, derive_phrase_key
from src.settings import Settings

from . import bare
from .bare import Bare, bare_aiohttp
from .fill import write_keys
from .latency import measure_latencies, percentile
from .logins import OK, PASSWORD, SERVICE_UNAVAILABLE, Logins, log_in, make_user
from .machine import has_programs, write_result
from .wrk import Load, Measurement, run_wrk

GROUP, SINGLE = MODES = ("group", "single")
FLOOR = "bare"
MODULES = {GROUP: "src.app", SINGLE: "bench.single"}
BASELINE, CREATING, OPENING, LOGIN = "GET /healthz", "POST /generate", "POST /secrets/{key}", "POST /login"
GET, POST = ("GET", "POST")
CONNECTIONS = (32, 128)
HELD = f"{OPENING} with a reader's key"
PHRASE = "correct horse"
SECRET = json.dumps({"secret": "0123456789abcdef" * 2})
SEALED = json.dumps({"secret": "0123456789abcdef" * 2, "phrase": PHRASE})
READER = json.dumps({"reader": "A" * 43})
OPENINGS_PER_SECOND = 8000
"""More than this machine can open, so that no run ends for lack of keys."""
DERIVATIONS_PER_SECOND = 300
SIGNING_IN, CROWD = 8, 256
"""Clients that keep every hashing thread busy with short queues, and far more clients than can be served."""
WARM_UP = 1.0
HEALTH = Load("GET", "/healthz", 200)
RATIOS = {"per_second": "requests per second", "worker_us": "worker time", "nginx_us": "nginx time", "p99_ms": "p99"}
"""The fields of a measurement that are compared with those of the floor."""
FLOOR_LOADS = {GET: Load("GET", bare.PATH, 200), POST: Load("POST", bare.PATH, bare.CREATED, SECRET)}


class Bench:
    """One run: two stacks that differ only in group commit, the floor, and the measurements of all."""

    def __init__(
        self, seconds: int, stacks: Mapping[str, RunningStack], floor: Bare, data_dirs: Mapping[str, Path]
    ) -> None:
        self.seconds = seconds
        self.stacks = stacks
        self.floor = floor
        self.data_dirs = data_dirs
        self.figures: list[Measurement] = []

    def measure(self, mode: str, name: str, connections: int, load: Load) -> Measurement:
        """Put a stack under load; record and print the measurement."""
        stack = self.stacks[mode]
        pids = (stack.launcher.pid,)
        return self.note(run_wrk(stack.url, f"{mode}: {name}", connections, load, self.seconds, pids=pids))

    def note(self, figure: Measurement) -> Measurement:
        """Record and print a measurement."""
        self.figures.append(figure)
        print(
            f"{figure.name:<42}{figure.connections:>5}{figure.per_second:>11,.0f}{figure.p50_ms:>10.1f}{figure.p99_ms:>10.1f}"
            f"{figure.worker_us:>11.0f}{figure.nginx_us:>10.0f}{figure.mongod_us:>11.0f}"
            f"{figure.errors:>8}{figure.refused:>9}",
            flush=True,
        )
        return figure

    def keys(self, mode: str, count: int, phrase: str | None = None) -> Path:
        """Create secrets in a stack's database and return the file with their keys."""
        return write_keys(self.data_dirs[mode], count, phrase)

    def round(self) -> None:
        """Measure everything once, alternating between the stacks, so that a slow minute affects both."""
        for connections in CONNECTIONS:
            modes = MODES if connections == CONNECTIONS[-1] else MODES[:1]
            for floor, load in FLOOR_LOADS.items():
                pids = self.floor.pids
                self.note(run_wrk(self.floor.url, f"{FLOOR}: {floor}", connections, load, self.seconds, pids=pids))
            for mode in modes:
                self.measure(mode, BASELINE, connections, HEALTH)
            for mode in modes:
                self.measure(mode, CREATING, connections, Load("POST", "/generate", 201, SECRET))
            for mode in modes:
                keys = self.keys(mode, OPENINGS_PER_SECOND * self.seconds)
                self.measure(mode, OPENING, connections, Load("POST", "/secrets/", 200, keys=keys))
            keys = self.keys(GROUP, OPENINGS_PER_SECOND * self.seconds)
            self.measure(GROUP, HELD, connections, Load("POST", "/secrets/", 200, READER, keys))
        self.measure(
            GROUP, f"{CREATING} with a phrase", CONNECTIONS[0], Load("POST", "/generate", 201, SEALED, refusal=REFUSAL)
        )

    def phrases(self, rounds: int) -> dict[str, float]:
        """Measure openings with a phrase against Argon2id alone, and the baseline's latency meanwhile.

        The two alternate, and each measurement of openings is compared with those of Argon2id right before and after
        it: the speed of Argon2id depends mostly on the other load on this machine's memory.
        """
        keys = self.keys(GROUP, DERIVATIONS_PER_SECOND * self.seconds * rounds, phrase=PHRASE)
        unused = keys.read_text(encoding="ascii").splitlines()
        alone, opened, p99s = [argon2_alone(self.seconds)], list[float](), list[float]()
        for number in range(rounds):
            keys.write_text("\n".join(unused[number::rounds]) + "\n", encoding="ascii")
            opening = Load("POST", "/secrets/", 200, json.dumps({"phrase": PHRASE}), keys, refusal=REFUSAL)
            with ThreadPoolExecutor(1) as pool:
                probing = pool.submit(healthz_p99, self.stacks[GROUP].url, self.seconds)
                figure = self.measure(GROUP, f"{OPENING} with a phrase", CONNECTIONS[0], opening)
                p99s.append(probing.result())
            opened.append(figure.per_second)
            alone.append(argon2_alone(self.seconds))
        shares = [2 * each / sum(around) for each, around in zip(opened, pairwise(alone), strict=True)]
        return {
            "argon2_alone_per_second": round(statistics.median(alone), 1),
            "opened_per_second": round(statistics.median(opened), 1),
            "share_of_argon2": round(statistics.median(shares), 3),
            "healthz_p99_ms_meanwhile": round(max(p99s), 1),
        }

    def logins(self) -> dict[str, float]:
        """Measure logins against bcrypt alone, the baseline's latency meanwhile, and the responses under overload."""
        url = self.stacks[GROUP].url
        # A login needs 250 ms of one core: twice the time gives twice the samples.
        seconds = 2 * self.seconds
        asyncio.run(make_user(url))
        before = bcrypt_alone(seconds)
        with ThreadPoolExecutor(1) as pool:
            probing = pool.submit(healthz_p99, url, WARM_UP + seconds)
            served = asyncio.run(log_in(url, SIGNING_IN, seconds, WARM_UP))
            p99 = probing.result()
        alone = (before + bcrypt_alone(seconds)) / 2
        crowd = asyncio.run(log_in(url, CROWD, seconds, WARM_UP))
        self.note(login_figure(LOGIN, SIGNING_IN, served, {OK}))
        self.note(login_figure(f"{LOGIN}, too many", CROWD, crowd, {OK, SERVICE_UNAVAILABLE}))
        return {
            "bcrypt_alone_per_second": round(alone, 2),
            "logins_per_second": round(served.per_second, 2),
            "share_of_bcrypt": round(served.per_second / alone, 3),
            "healthz_p99_ms_during_logins": round(p99, 1),
            "logins_per_second_of_too_many": round(crowd.per_second, 2),
            "share_of_503_of_too_many": round(len(crowd.milliseconds(SERVICE_UNAVAILABLE)) / len(crowd.attempts), 3),
            "slowest_login_ms_of_too_many": round(max(crowd.milliseconds(OK), default=0.0), 1),
            "slowest_503_ms_of_too_many": round(max(crowd.milliseconds(SERVICE_UNAVAILABLE), default=0.0), 1),
        }

    def shares(self) -> dict[str, float]:
        """Return the medians of all rounds as ratios to the floor, and the gain of group commit, by name."""
        shares = {
            f"{name}: {what} over bare {floor}, {connections} connections": self._median(
                f"{GROUP}: {name}", connections, field
            )
            / self._median(f"{FLOOR}: {floor}", connections, field)
            for connections in CONNECTIONS
            for name, floor in ((BASELINE, GET), (CREATING, POST), (OPENING, POST))
            for field, what in RATIOS.items()
            if self._median(f"{FLOOR}: {floor}", connections, field)
        }
        for connections in CONNECTIONS:
            ratio = self._rate(f"{GROUP}: {HELD}", connections) / self._rate(f"{GROUP}: {OPENING}", connections)
            shares[f"{HELD} over one without, {connections} connections"] = ratio
        most = CONNECTIONS[-1]
        for request in (CREATING, OPENING):
            gain = self._rate(f"{GROUP}: {request}", most) / self._rate(f"{SINGLE}: {request}", most)
            shares[f"{request} over one command per request, {most} connections"] = gain
        return {name: round(share, 2) for name, share in shares.items()}

    def _rate(self, name: str, connections: int) -> float:
        return self._median(name, connections, "per_second")

    def _median(self, name: str, connections: int, field: str) -> float:
        values: list[float] = [
            getattr(figure, field)
            for figure in self.figures
            if (figure.name, figure.connections) == (name, connections)
        ]
        return statistics.median(values)


def healthz_p99(url: str, seconds: float) -> float:
    """Request /healthz 20 times a second on one connection and return the 99th percentile in milliseconds."""
    until = time.monotonic() + seconds
    return measure_latencies(url, "/healthz", 0.05, lambda: time.monotonic() > until).p99_ms


def login_figure(name: str, connections: int, logins: Logins, expected: set[int]) -> Measurement:
    """Return the logins as a measurement: successes per second, and the latencies of all expected responses."""
    times = logins.milliseconds(*expected)
    broken = sum(attempt.status == 0 for attempt in logins.attempts)
    return Measurement(
        f"{GROUP}: {name}",
        connections,
        round(logins.per_second, 1),
        round(percentile(times, 0.5), 2),
        round(percentile(times, 0.99), 2),
        logins.other_than(expected) - broken,
        broken,
        len(logins.milliseconds(*expected - {OK})),
    )


def argon2_alone(seconds: float) -> float:
    """Return the derivations per second on all cores of an otherwise idle machine."""
    settings = Settings(_env_file=None)
    cost = Argon2Cost(settings.argon2_memory_kib, settings.argon2_passes)
    return alone(seconds, lambda: derive_phrase_key(PHRASE, bytes(SALT_BYTES), cost))


def bcrypt_alone(seconds: float) -> float:
    """Return the password checks per second on all cores of an otherwise idle machine."""
    cost = Settings(_env_file=None).bcrypt_cost
    password_hash = hash_password(PASSWORD, cost)
    return alone(seconds, lambda: check_password(PASSWORD, password_hash, cost))


def alone(seconds: float, work: Callable[[], object]) -> float:
    """Return the number of times per second that all cores together complete the work."""
    deadline = time.monotonic() + seconds

    def repeat(_: int) -> float:
        began, count = time.monotonic(), 0
        while time.monotonic() < deadline:
            work()
            count += 1
        return count / (time.monotonic() - began)

    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as pool:
        return sum(pool.map(repeat, range(cores)))


def main() -> int:
    """Run the bench and return the exit code: 1 if a response was wrong, or if no request was served."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the running stack with wrk.")
    parser.add_argument("--seconds", type=int, default=5, help="duration of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default 3)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    options = parser.parse_args()
    if not has_programs("wrk", "nginx"):
        return 2
    environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
    print(
        f"{'':<42}{'conns':>5}{'per s':>11}{'p50 ms':>10}{'p99 ms':>10}"
        f"{'worker us':>11}{'nginx us':>10}{'mongod us':>11}{'errors':>8}{'refused':>9}"
    )
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        data_dirs = {mode: directory / mode for mode in MODES}

        def running(mode: str) -> AbstractContextManager[RunningStack]:
            return running_stack(
                data_dir=data_dirs[mode],
                log_dir=directory / f"{mode}-logs",
                app_module=MODULES[mode],
                environment=environment,
            )

        group = stack.enter_context(running(GROUP))
        # Phrases and logins are compared with all cores of the machine; a second stack would use some of them.
        with running(SINGLE) as single, bare_aiohttp(directory / FLOOR) as floor:
            bench = Bench(options.seconds, {GROUP: group, SINGLE: single}, floor, data_dirs)
            for _ in range(options.rounds):
                bench.round()
        phrases = bench.phrases(options.rounds)
        logins = bench.logins()
    shares = bench.shares()
    print("\n".join(f"{share:>8}  {name}" for name, share in shares.items()))
    print("\n".join(f"{figure:>8}  {name}" for name, figure in (*phrases.items(), *logins.items())))
    write_result(
        {
            "driver": options.driver,
            "figures": [asdict(figure) for figure in bench.figures],
            "shares": shares,
            "phrases": phrases,
            "logins": logins,
        }
    )
    return 1 if any(figure.errors or not figure.per_second for figure in bench.figures) else 0


if __name__ == "__main__":
    sys.exit(main())
