"""The results of `make bench`: the median and the spread of every figure and of its ratio to the floor, as tables."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .rounds import Figure
from .scenarios import (
    BY_NAME,
    GENERATE,
    GENERATE_SINGLE,
    OPEN,
    OPEN_READER,
    OPEN_SINGLE,
    TEXT,
    Case,
)

FIELDS = ("worker_us", "nginx_us", "mongod_us", "per_second", "p99_ms")
COMPARED = ("worker_us", "nginx_us", "per_second", "p99_ms")
"""The fields whose ratios to the floor are reported; the floor has no MongoDB."""
TITLES = {"open-phrase": "`POST /secrets/{key}` with a phrase", "login": "`POST /login`"}
"""Of the scenarios in `hash_shares` that have a row; logins of too many clients at once measure no processor time."""
SHARES = {
    "open-phrase": (
        "opened_per_second",
        "argon2_alone_per_second",
        "share_of_argon2",
        "healthz_p99_ms_during_openings",
    ),
    "login": ("logins_per_second", "bcrypt_alone_per_second", "share_of_bcrypt", "healthz_p99_ms_during_logins"),
}
"""The cells of the table of shares."""
SHARES_HEAD = ("scenario", "per second", "the hash alone, per second", "share", "p99 of `GET /healthz` meanwhile, ms")
GAINS = (
    ("one MongoDB command per request", GENERATE, GENERATE_SINGLE),
    ("one MongoDB command per request", OPEN, OPEN_SINGLE),
    ("without a reader's key", OPEN_READER, OPEN),
)
HEAD = (
    "worker µs",
    "nginx µs",
    "mongod µs",
    "per second",
    "p99 ms",
    "worker / bare",
    "nginx / bare",
    "per second / bare",
    "p99 / bare",
)


@dataclass(frozen=True)
class Spread:
    """The median of the rounds, the least and the most."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return the spread of some values, at least one."""
        return cls(round(statistics.median(values), 3), round(min(values), 3), round(max(values), 3))

    def text(self, digits: int) -> str:
        """Return the median, followed by least and most unless both are written as the median is."""
        median, least, most = (f"{each:,.{digits}f}" for each in (self.median, self.least, self.most))
        return median if least == median == most else f"{median} ({least}\N{EN DASH}{most})"


@dataclass(frozen=True)
class Row:
    """All rounds of a case: its fields, and their ratios to the floor, if it was measured; each by name."""

    case: Case
    title: str
    values: Mapping[str, Spread]
    ratios: Mapping[str, Spread]


def summarize(figures: Sequence[Figure]) -> list[Row]:
    """Return a row for each case. A ratio compares a figure with the median of the floor in the same round.

    A ratio of the medians of all rounds would compare moments minutes apart, between which the load on a shared machine
    changes.
    """
    rows = []
    for case in dict.fromkeys(one.case for one in figures):
        title = BY_NAME[case.scenario].title if case.scenario in BY_NAME else TITLES.get(case.scenario)
        if title is None:
            continue
        made = [one for one in figures if one.case == case]
        floor = _floor_of(case)
        ratios = {}
        for field in COMPARED if floor and floor != case else ():
            of = [_value(one, field) / bare for one in made if (bare := _median(figures, floor, field, one.round))]
            if of:
                ratios[field] = Spread.of(of)
        values = {field: Spread.of([_value(one, field) for one in made]) for field in FIELDS}
        rows.append(Row(case, title, values, ratios))
    return rows


def gains(figures: Sequence[Figure]) -> dict[str, float]:
    """Return the ratios of requests a second to those of another way to serve the same request, by name."""
    found = {}
    for what, scenario, other in GAINS:
        for case in dict.fromkeys(one.case for one in figures if one.case.scenario == scenario.name):
            rates = [
                _median(figures, Case(name, case.connections, case.text), "per_second")
                for name in (scenario.name, other.name)
            ]
            if all(rates):
                name = f"{scenario.name}: requests a second over those {what}, {case.connections} connections"
                found[name] = round(rates[0] / rates[1], 2)
    return found


def tables(rows: Sequence[Row], shares: Mapping[str, float]) -> str:
    """Return tables in Markdown: all scenarios, those with several connections or texts, and shares of hashes."""
    usual = usual_rows(rows)
    several = _by_scenario(rows, lambda row: row.case.text == TEXT)
    texts = _by_scenario(rows, lambda row: row.case.text != TEXT or row in usual)
    parts = [_table("scenario", [(row.title, row) for row in usual])]
    if several:
        parts.append(
            _table("scenario, connections", [(f"{row.title}, {row.case.connections}", row) for row in several])
        )
    if texts:
        parts.append(_table("scenario, bytes of the text", [(f"{row.title}, {row.case.text:,}", row) for row in texts]))
    hashes = [name for name, fields in SHARES.items() if fields[0] in shares]
    if hashes:
        lines = [f"| {' | '.join(SHARES_HEAD)} |", f"| --- {'| --- ' * (len(SHARES_HEAD) - 1)}|"]
        lines += [
            f"| {' | '.join((TITLES[name], *(f'{shares[field]:g}' for field in SHARES[name])))} |" for name in hashes
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def usual_rows(rows: Sequence[Row]) -> list[Row]:
    """Return one row for each scenario, that of the usual text and connections: of those that measure most of them."""
    counts = [row.case.connections for row in rows if row.case.text == TEXT]
    usual = max(counts, key=counts.count)
    names = {row.case.scenario for row in rows if row.case.connections == usual}
    return [
        row
        for row in rows
        if row.case.text == TEXT and (row.case.connections == usual or row.case.scenario not in names)
    ]


def _by_scenario(rows: Sequence[Row], is_in: Callable[[Row], bool]) -> list[Row]:
    """Return the rows of scenarios that have several of them, each scenario's together."""
    chosen = [row for row in rows if is_in(row)]
    names = [row.case.scenario for row in chosen]
    several = [row for row in chosen if names.count(row.case.scenario) > 1]
    return sorted(several, key=lambda row: names.index(row.case.scenario))


def _table(first: str, rows: Sequence[tuple[str, Row]]) -> str:
    lines = [f"| {' | '.join((first, *HEAD))} |", f"| --- {'| --- ' * len(HEAD)}|"]
    for name, row in rows:
        cells = [
            *(_cell(row.values, field, 1 if field == "p99_ms" else 0) for field in FIELDS),
            *(_cell(row.ratios, field, 2) for field in COMPARED),
        ]
        lines.append(f"| {' | '.join((name, *cells))} |")
    return "\n".join(lines)


def _cell(spreads: Mapping[str, Spread], field: str, digits: int) -> str:
    """Return the median, and for the figure that repeats best the spread as well."""
    if field not in spreads or not spreads[field].most:
        return ""
    return spreads[field].text(digits) if field == "worker_us" else f"{spreads[field].median:,.{digits}f}"


def _floor_of(case: Case) -> Case | None:
    """Return the floor of a case; none for requests that hash, which take a thousand times as long."""
    if case.scenario not in BY_NAME or BY_NAME[case.scenario].connections:
        return None
    return Case(BY_NAME[case.scenario].floor.name, case.connections, case.text)


def _median(figures: Sequence[Figure], case: Case | None, field: str, number: int | None = None) -> float:
    values = [_value(one, field) for one in figures if one.case == case and number in {None, one.round}]
    return statistics.median(values) if values else 0.0


def _value(figure: Figure, field: str) -> float:
    return float(getattr(figure.measurement, field))
