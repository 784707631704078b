"""What is shown: the progress of a run, and what it came to."""

import sys
from collections.abc import Sequence
from textwrap import wrap

from ..latency import percentile
from .objectives import Result
from .tally import Tally

OBJECTIVE, ASKED, MEASURED = 34, 30, 42
SECONDS_PER_LINE = 10


def show_progress(tally: Tally, elapsed: int, seconds: int) -> None:
    """Write how far the run is to stderr: over the line before on a terminal, else a line now and then."""
    on_terminal = sys.stderr.isatty()
    if not on_terminal and elapsed % SECONDS_PER_LINE and elapsed != seconds:
        return
    echo = f"{percentile(tally.echo_seconds, 0.99) * 1000:.0f} ms" if tally.echo_seconds else "-"
    line = (
        f"{elapsed:>4} s of {seconds}: {tally.requests:,} requests, p99 of echo {echo},"
        f" {tally.unavailable.total()} not answered, {tally.wrong.total()} wrong"
    )
    sys.stderr.write(f"\r{line}\x1b[K" if on_terminal else f"{line}\n")
    if on_terminal and elapsed == seconds:
        sys.stderr.write("\n")
    sys.stderr.flush()


def table(results: Sequence[Result]) -> str:
    """Return the report, an objective in a row."""
    heads = _row("objective", "asked", "measured", "samples", "verdict")
    rows = (
        _row(result.objective, result.asked, result.measured, f"{result.samples:,}", result.verdict)
        for result in results
    )
    return "\n".join([heads, *rows])


def _row(objective: str, asked: str, measured: str, samples: str, verdict: str) -> str:
    cells = _side_by_side(wrap(objective, OBJECTIVE), wrap(asked, ASKED), wrap(measured, MEASURED))
    lines = [f"{a:<{OBJECTIVE + 2}}{b:<{ASKED + 2}}{c:<{MEASURED + 2}}" for a, b, c in cells]
    lines[0] += f"{samples:>8}  {verdict}"
    return "\n".join(line.rstrip() for line in lines)


def _side_by_side(*columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows of columns of which some are shorter."""
    return [
        tuple(column[index] if index < len(column) else "" for column in columns)
        for index in range(max(map(len, columns)))
    ]
