"""`make bench-observation`: the combined cost of metrics and logs in throughput, or that of the audit.

Two stacks are measured in turns, one with default settings and one without the subject. The exit code is 1 if a
response was wrong, or if the cost is not below the target; a short run checks only the responses.
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.running_stack import RunningStack, running_stack

from .connection import log_in
from .fill import TEXT
from .logins import CREDENTIALS, make_user
from .machine import has_programs, write_result
from .supplies import Supplies
from .wrk import Load, Measurement, run_wrk

ON, OFF = MODES = ("on", "off")
CONNECTIONS = 64
BODY = json.dumps({"str": "0123456789abcdef" * 2})
OPENINGS_PER_SECOND = 8000
"""More than this machine can open, so that no run ends for lack of keys."""
ENOUGH_SECONDS, ENOUGH_ROUNDS = 15, 5
"""Minimum for a verdict, per stack: in a shorter run, two stacks of the same code differ by as much as the target."""


@dataclass(frozen=True)
class Subject:
    """What costs throughput: the request that shows it, the settings without it, and the maximum cost."""

    name: str
    request: str
    without: Mapping[str, str]
    most_cost: float


OBSERVATION = Subject(
    "metrics and logs", "POST /echo", {"SEALPOST_METRICS": "off", "SEALPOST_LOG_LEVEL": "error"}, most_cost=0.1
)
AUDIT = Subject("the audit", "POST /secrets/{key}", {"SEALPOST_AUDIT_TTL": "0"}, most_cost=0.05)
SUBJECTS = {"observation": OBSERVATION, "audit": AUDIT}


def measure(subject: Subject, mode: str, running: RunningStack, data_dir: Path, seconds: int) -> Measurement:
    """Put a stack under load, and print the measurement."""
    if subject is AUDIT:
        load = Load(
            "POST", "/secrets/", 200, keys=Supplies(running.url, data_dir).keys(OPENINGS_PER_SECOND * seconds, TEXT)
        )
    else:
        # A new login each time: a token expires after 10 minutes, and all rounds together may last longer.
        load = Load("POST", "/echo", 200, BODY, token=log_in(running.url, CREDENTIALS))
    figure = run_wrk(
        running.url, f"{mode}: {subject.request}", CONNECTIONS, load, seconds, pids=(running.launcher.pid,)
    )
    print(
        f"{figure.name:<25}{figure.per_second:>11,.0f}{figure.p50_ms:>10.1f}{figure.p99_ms:>10.1f}"
        f"{figure.worker_us:>11.0f}{figure.mongod_us:>11.0f}{figure.errors:>8}",
        flush=True,
    )
    return figure


def take_turns(
    subject: Subject, stacks: Mapping[str, RunningStack], directory: Path, rounds: int, seconds: int
) -> dict[str, list[Measurement]]:
    """Measure each stack once a round, after a warm-up of 1 second. ``directory`` has their data directories."""
    for mode, running in stacks.items():
        asyncio.run(make_user(running.url))
        measure(subject, mode, running, directory / mode, 1)
    print("warm-up finished; the measurements follow")
    figures: dict[str, list[Measurement]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        # The order alternates, so that a machine that gets slower or faster favours neither stack.
        for mode in MODES if number % 2 else reversed(MODES):
            figures[mode].append(measure(subject, mode, stacks[mode], directory / mode, seconds))
    return figures


def cost_of(on: Sequence[float], off: Sequence[float]) -> float:
    """Return the lost share of throughput: the median of the ratios of each round.

    A ratio of the medians would compare moments minutes apart, between which the load on a shared machine changes.
    """
    return 1 - statistics.median(rate / of for rate, of in zip(on, off, strict=True))


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.observation", description="Measure the cost of metrics and logs, or of the audit."
    )
    parser.add_argument("--subject", choices=SUBJECTS, default="observation", help="what to measure")
    parser.add_argument("--seconds", type=int, default=5, help="duration of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=11, help="number of measurements of each stack (default 11)")
    options = parser.parse_args()
    if not has_programs("wrk", "nginx"):
        return 2
    subject = SUBJECTS[options.subject]
    settings = {ON: {}, OFF: subject.without}
    print(f"{subject.name:<25}{'per s':>11}{'p50 ms':>10}{'p99 ms':>10}{'worker us':>11}{'mongod us':>11}{'errors':>8}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        stacks = {
            mode: stack.enter_context(
                running_stack(
                    data_dir=directory / mode,
                    log_dir=directory / f"{mode}-logs",
                    environment={"SEALPOST_RATE_LIMITS": "off", **settings[mode]},
                )
            )
            for mode in MODES
        }
        figures = take_turns(subject, stacks, directory, options.rounds, options.seconds)
    rates = {mode: [figure.per_second for figure in figures[mode]] for mode in MODES}
    medians = {mode: statistics.median(rates[mode]) for mode in MODES}
    cost = cost_of(rates[ON], rates[OFF])
    long_enough = options.seconds * options.rounds >= ENOUGH_SECONDS and options.rounds >= ENOUGH_ROUNDS
    verdict = ("met" if cost < subject.most_cost else "MISSED") if long_enough else "too short for a verdict"
    print(f"medians: {medians[ON]:,.0f} on, {medians[OFF]:,.0f} off, ratio {medians[ON] / medians[OFF]:.3f}")
    print(f"{verdict}: {subject.name} cost {cost:.1%} of the throughput, target: under {subject.most_cost:.0%}")
    write_result(
        {
            "figures": [asdict(figure) for mode in MODES for figure in figures[mode]],
            "ratio_of_medians": round(medians[ON] / medians[OFF], 4),
            "cost": round(cost, 4),
        },
        f"{options.subject}-",
    )
    wrong = any(figure.errors for mode in MODES for figure in figures[mode])
    return 1 if wrong or verdict == "MISSED" else 0


if __name__ == "__main__":
    sys.exit(main())
