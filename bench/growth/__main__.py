"""`make bench-growth`: how the cost of a request changes, on stacks of this machine under wrk.

Most parts compare conditions in turns: stored items, connections, workers, MongoDB members. Another one reads the
memory of the workers over many requests. Prints every measurement, then tables in Markdown with what machines like this
one hold; writes both to ``bench/results/``. The exit code is 1 if a response was wrong.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Protocol

from tests.hosts.network import NetworkError

from ..machine import GROWTH, has_programs, write_result
from .capacity import capacity
from .connections import measure_connections
from .members import measure_members
from .memory import measure_memory
from .stored import measure_stored
from .workers import measure_workers

PARTS = STORED, CONNECTIONS, WORKERS, MEMORY, MEMBERS = ("stored", "connections", "workers", "memory", "members")
CAPACITY = {STORED, MEMBERS}
"""The parts that the capacity is computed from."""
ENVIRONMENT = {"SEALPOST_RATE_LIMITS": "off"}


class Result(Protocol):
    """The result of a part."""

    @property
    def is_right(self) -> bool:
        """Whether all responses were right."""

    def tables(self) -> list[str]:
        """Return its tables in Markdown."""

    def to_document(self) -> Any:
        """Return it as JSON."""


def measure(part: str, work: Path, options: argparse.Namespace) -> Result:
    """Measure one part. Raises `NetworkError` if this machine cannot have the network of the part members."""
    each = {"seconds": options.seconds, "rounds": options.rounds}
    if part == STORED:
        return measure_stored(work, options.items, ENVIRONMENT, **each)
    if part == MEMORY:
        return measure_memory(work, ENVIRONMENT, requests=options.requests, seconds=options.seconds)
    if part == CONNECTIONS:
        return measure_connections(work, ENVIRONMENT, **each)
    if part == WORKERS:
        return measure_workers(work, ENVIRONMENT, **each)
    return measure_members(work, ENVIRONMENT, **each)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description="Measure how the cost grows.")
    parser.add_argument("--seconds", type=int, default=8, help="duration of each measurement (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds (default 3)")
    parser.add_argument(
        "--items", type=int, nargs="+", default=[10_000, 1_000_000, 10_000_000], help="numbers of stored items"
    )
    parser.add_argument("--requests", type=int, default=1_000_000, help="requests of the part memory (default 1000000)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    return parser.parse_args()


def main() -> int:
    """Measure all parts and return the exit code."""
    options = _options()
    if not has_programs("wrk", "nginx"):
        return 2
    results: dict[str, Result] = {}
    for part in options.only:
        with tempfile.TemporaryDirectory(prefix="sealpost-growth-") as work:
            try:
                results[part] = measure(part, Path(work), options)
            except NetworkError as error:
                print(f"bench: the part {part} is left out: {error}", file=sys.stderr)
    documents = {part: one.to_document() for part, one in results.items()}
    tables = "\n\n".join(
        [
            *(table for one in results.values() for table in one.tables()),
            *(
                [capacity(documents[STORED], documents[MEMBERS], os.cpu_count() or 1)]
                if set(results) >= CAPACITY
                else []
            ),
        ]
    )
    print(f"\n{tables}\n")
    written = write_result({"seconds": options.seconds, "rounds": options.rounds, **documents}, prefix=GROWTH)
    written.with_suffix(".md").write_text(f"{tables}\n", encoding="utf-8")
    return 0 if all(one.is_right for one in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
