"""`make bench` and `make bench-matrix`: nginx, 4 workers and MongoDB on this machine under wrk.

Every scenario is measured in turns with bare aiohttp behind a bare nginx, the floor, and creating and opening secrets
with a stack that sends a MongoDB command per request. Then the first stack runs alone: phrases are compared with
Argon2id, and logins with bcrypt.
Prints every measurement with its processor time a request, then tables in Markdown with the median and the spread of
all rounds, and the ratios to the floor. Writes everything to ``bench/results/``, with a chart. The exit code is 1 if a
response was wrong. Absolute figures describe the machine; ratios describe the code, and those of processor time repeat
best. `docs/performance.md` has the figures.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict
from pathlib import Path

from .bare import bare_aiohttp
from .chart import chart
from .hash_shares import LOGIN, OPEN_PHRASE, measure_logins, measure_phrases
from .machine import has_programs, write_result
from .report import gains, summarize, tables, usual_rows
from .rounds import HEAD, Rounds, Server
from .running_stack import RunningStack, running_stack
from .scenarios import BY_NAME, CONNECTIONS, FLOOR, GENERATE_PHRASE, GROUP, SCENARIOS, SINGLE, TEXT, plan
from .supplies import Supplies

MODULES = {GROUP: "src.app", SINGLE: "bench.single"}
NAMES = (*(one.name for one in SCENARIOS), GENERATE_PHRASE.name, OPEN_PHRASE.scenario, LOGIN.scenario)


def run(
    options: argparse.Namespace, rounds: Rounds, stacks: Mapping[str, AbstractContextManager[RunningStack]], work: Path
) -> dict[str, float]:
    """Measure everything, and return the shares of Argon2id and bcrypt."""
    chosen = [BY_NAME[name] for name in NAMES if name in options.only and name in BY_NAME]
    cases = list(plan(chosen, options.connections, options.texts))
    shares: dict[str, float] = {}
    with ExitStack() as stack:
        group = _server(stack.enter_context(stacks[GROUP]), work / GROUP)
        # Phrases and logins are compared with all cores of the machine; other servers would use some of them.
        with ExitStack() as others:
            servers = {GROUP: group}
            if any(one.server == SINGLE for one in chosen):
                servers[SINGLE] = _server(others.enter_context(stacks[SINGLE]), work / SINGLE)
            if cases:
                floor = others.enter_context(bare_aiohttp(work / FLOOR))
                servers[FLOOR] = Server(floor.url, floor.pids, Supplies(floor.url, work / FLOOR), is_floor=True)
            for server in servers.values():
                rounds.warm_up(server)
            for number in range(options.rounds):
                for case in cases:
                    rounds.measure(number, case, servers[BY_NAME[case.scenario].server])
        if OPEN_PHRASE.scenario in options.only:
            shares |= measure_phrases(rounds, options.rounds, group)
        if LOGIN.scenario in options.only:
            shares |= measure_logins(rounds, group)
    return shares


def _server(running: RunningStack, data_dir: Path) -> Server:
    return Server(running.url, (running.launcher.pid,), Supplies(running.url, data_dir))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the running stack with wrk.")
    parser.add_argument("--seconds", type=int, default=5, help="duration of each measurement (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default 3)")
    parser.add_argument(
        "--connections",
        type=int,
        nargs="+",
        default=[CONNECTIONS],
        help=f"numbers of connections of the main scenarios; others have {CONNECTIONS} (default {CONNECTIONS})",
    )
    parser.add_argument(
        "--texts", type=int, nargs="+", default=[TEXT], help=f"bytes of the texts created and opened (default {TEXT})"
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=f"scenarios: {', '.join(NAMES)}"
    )
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    return parser.parse_args()


def main() -> int:
    """Run the bench and return the exit code: 1 if a response was wrong, or if no request was served."""
    options = _options()
    if not has_programs("wrk", "nginx"):
        return 2
    environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
    rounds = Rounds(options.seconds)
    print(HEAD)
    with tempfile.TemporaryDirectory(prefix="sealpost-bench-") as directory:
        work = Path(directory)
        stacks = {
            mode: running_stack(
                data_dir=work / mode, log_dir=work / f"{mode}-logs", app_module=module, environment=environment
            )
            for mode, module in MODULES.items()
        }
        shares = run(options, rounds, stacks, work)
    rows, gained = summarize(rounds.figures), gains(rounds.figures)
    print(f"\n{tables(rows, shares)}\n")
    print("\n".join(f"{figure:>8}  {name}" for name, figure in (*gained.items(), *shares.items())))
    written = write_result(
        {
            "driver": options.driver,
            "seconds": options.seconds,
            "rounds": options.rounds,
            "figures": [asdict(one) for one in rounds.figures],
            "summary": [asdict(row) for row in rows],
            "gains": gained,
            "shares": shares,
        }
    )
    written.with_suffix(".md").write_text(f"{tables(rows, shares)}\n", encoding="utf-8")
    written.with_suffix(".svg").write_text(chart(usual_rows(rows), "The cost of each request"), encoding="utf-8")
    return 0 if rounds.are_right else 1


if __name__ == "__main__":
    sys.exit(main())
