"""`make bench-observation`: what metrics and logs cost together, in throughput of `POST /echo`.

Two stacks run beside each other, one as it comes and one that neither counts nor logs requests, and take turns. The
exit code is 1 where an answer was wrong, or the cost is not below what is asked; a brief run tells only the former.
"""

import argparse
import asyncio
import http.client
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from bench.running_stack import RunningStack, running_stack

from .logins import CREDENTIALS, make_user
from .machine import has_programs, write_result
from .wrk import Figure, Load, run_wrk

ON, OFF = MODES = ("on", "off")
SETTINGS = {ON: {}, OFF: {"SEALPOST_METRICS": "off", "SEALPOST_LOG_LEVEL": "error"}}
CONNECTIONS = 64
BODY = json.dumps({"str": "0123456789abcdef" * 2})
MOST_COST = 0.1
ENOUGH_SECONDS, ENOUGH_ROUNDS = 15, 5
"""What a verdict takes, for each stack: in less, two runs of the same code differ by as much as is asked."""


def log_in(url: str) -> str:
    """Return an access token."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.request("POST", "/login", json.dumps(CREDENTIALS))
    token = json.load(connection.getresponse())["access_token"]
    connection.close()
    return str(token)


def measure(mode: str, running: RunningStack, seconds: int) -> Figure:
    """Put a stack under load, and print what came out."""
    # Signed in anew: a token lives for ten minutes, and all rounds together may take longer.
    load = Load("POST", "/echo", 200, BODY, token=log_in(running.url))
    figure = run_wrk(running.url, f"{mode}: POST /echo", CONNECTIONS, load, seconds)
    print(
        f"{figure.name:<20}{figure.per_second:>11,.0f}{figure.p50_ms:>10.1f}{figure.p99_ms:>10.1f}{figure.errors:>8}",
        flush=True,
    )
    return figure


def take_turns(stacks: Mapping[str, RunningStack], rounds: int, seconds: int) -> dict[str, list[Figure]]:
    """Measure each stack once a round, after a second of the same that counts for nothing."""
    for mode, running in stacks.items():
        asyncio.run(make_user(running.url))
        measure(mode, running, 1)
    print("these were to warm up; now it counts")
    figures: dict[str, list[Figure]] = {mode: [] for mode in MODES}
    for number in range(rounds):
        # Each goes first in every other round, so that a machine that gets slower or faster favours neither.
        for mode in MODES if number % 2 else reversed(MODES):
            figures[mode].append(measure(mode, stacks[mode], seconds))
    return figures


def cost_of(on: Sequence[float], off: Sequence[float]) -> float:
    """Return the share of throughput that is lost: the median of the rounds, each compared within itself.

    The medians of all rounds would compare moments minutes apart, and a machine that others use changes in between.
    """
    return 1 - statistics.median(rate / of for rate, of in zip(on, off, strict=True))


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.observation", description="Measure what observation costs.")
    parser.add_argument("--seconds", type=int, default=5, help="how long each measurement takes (default 5)")
    parser.add_argument("--rounds", type=int, default=11, help="how often each stack is measured (default 11)")
    options = parser.parse_args()
    if not has_programs("wrk", "nginx"):
        return 2
    print(f"{'metrics and logs':<20}{'per s':>11}{'p50 ms':>10}{'p99 ms':>10}{'errors':>8}")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        stacks = {
            mode: stack.enter_context(
                running_stack(
                    data_dir=directory / mode,
                    log_dir=directory / f"{mode}-logs",
                    environment={"SEALPOST_RATE_LIMITS": "off", **SETTINGS[mode]},
                )
            )
            for mode in MODES
        }
        figures = take_turns(stacks, options.rounds, options.seconds)
    rates = {mode: [figure.per_second for figure in figures[mode]] for mode in MODES}
    medians = {mode: statistics.median(rates[mode]) for mode in MODES}
    cost = cost_of(rates[ON], rates[OFF])
    long_enough = options.seconds * options.rounds >= ENOUGH_SECONDS and options.rounds >= ENOUGH_ROUNDS
    verdict = ("kept" if cost < MOST_COST else "MISSED") if long_enough else "too short to tell"
    print(f"medians: {medians[ON]:,.0f} on, {medians[OFF]:,.0f} off, ratio {medians[ON] / medians[OFF]:.3f}")
    print(f"{verdict}: metrics and logs cost {cost:.1%} of the throughput, asked: under {MOST_COST:.0%}")
    write_result(
        {
            "figures": [asdict(figure) for mode in MODES for figure in figures[mode]],
            "ratio_of_medians": round(medians[ON] / medians[OFF], 4),
            "cost": round(cost, 4),
        },
        "observation-",
    )
    wrong = any(figure.errors for mode in MODES for figure in figures[mode])
    return 1 if wrong or verdict == "MISSED" else 0


if __name__ == "__main__":
    sys.exit(main())
