"""Variants of a stack measured in turns, and the ratio of each to the first."""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..rounds import HEAD, Figure, Rounds, Server
from ..scenarios import BY_NAME, CONNECTIONS, Case

COLUMNS = ("worker µs", "nginx µs", "mongod µs", "per second", "p99 ms", "per second / first", "p99 / first")


@dataclass(frozen=True)
class Variant:
    """A server under one condition, which ``establish`` brings about."""

    name: str
    server: Server
    establish: Callable[[], None] = lambda: None
    connections: int = CONNECTIONS


@dataclass(frozen=True)
class Row:
    """The medians of a scenario under one condition, and the medians of its ratios to the first one in each round."""

    scenario: str
    variant: str
    worker_us: float
    nginx_us: float
    mongod_us: float
    per_second: float
    p99_ms: float
    speed: float
    p99_ratio: float

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        times = (f"{each:,.0f}" for each in (self.worker_us, self.nginx_us, self.mongod_us, self.per_second))
        return (
            BY_NAME[self.scenario].title,
            self.variant,
            *times,
            f"{self.p99_ms:,.1f}",
            f"{self.speed:.2f}",
            f"{self.p99_ratio:.2f}",
        )


@dataclass(frozen=True)
class Comparison:
    """The result of one part: a table whose second column is ``what`` differs, and whether all responses were right."""

    what: str
    rows: list[Row]
    is_right: bool

    def tables(self) -> list[str]:
        """Return the table in Markdown."""
        return [markdown(("scenario", self.what, *COLUMNS), (row.cells() for row in self.rows))]

    def to_document(self) -> list[dict[str, Any]]:
        """Return the rows as JSON."""
        return [asdict(row) for row in self.rows]

    def write(self, path: Path) -> None:
        """Write everything to a file, for another process."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Comparison":
        """Return what another process has written."""
        written = json.loads(path.read_text(encoding="utf-8"))
        return cls(written["what"], [Row(**row) for row in written["rows"]], written["is_right"])


def compare(
    what: str, variants: Sequence[Variant], scenarios: Sequence[str], *, seconds: int, rounds: int
) -> Comparison:
    """Measure each scenario under each condition in every round, in alternating order, and print the figures."""
    made = {one.name: Rounds(seconds) for one in variants}
    print(f"\n{what}\n{HEAD}", flush=True)
    for server in {id(one.server): one.server for one in variants}.values():
        made[variants[0].name].warm_up(server)
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else reversed(variants):
            variant.establish()
            print(f"- {variant.name}", flush=True)
            for scenario in scenarios:
                made[variant.name].measure(number, Case(scenario, variant.connections), variant.server)
    figures = {name: one.figures for name, one in made.items()}
    return Comparison(what, summarize(figures, scenarios), all(one.are_right for one in made.values()))


def summarize(figures: Mapping[str, Sequence[Figure]], scenarios: Iterable[str]) -> list[Row]:
    """Return a row for each scenario and condition. Ratios are taken within a round: the machine's speed changes."""
    rows = []
    for scenario in scenarios:
        of = {
            name: [one.measurement for one in sorted(made, key=lambda one: one.round) if one.case.scenario == scenario]
            for name, made in figures.items()
        }
        first = next(iter(of.values()))
        rows += [
            Row(
                scenario,
                name,
                worker_us=_median(one.worker_us for one in made),
                nginx_us=_median(one.nginx_us for one in made),
                mongod_us=_median(one.mongod_us for one in made),
                per_second=_median(one.per_second for one in made),
                p99_ms=_median(one.p99_ms for one in made),
                speed=_median(one.per_second / base.per_second for one, base in zip(made, first, strict=True)),
                p99_ratio=_median(one.p99_ms / base.p99_ms for one, base in zip(made, first, strict=True)),
            )
            for name, made in of.items()
        ]
    return rows


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(head)} |", f"| {'--- | ' * len(head)}".rstrip()]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])
