"""The output: the progress of a run, and the report."""

import sys
from collections.abc import Sequence
from textwrap import wrap

from ..latency import percentile
from .objectives import ObjectiveResult
from .tally import Tally

OBJECTIVE, TARGET, MEASURED = 34, 30, 42
SECONDS_PER_LINE = 10


def show_progress(tally: Tally, elapsed: int, seconds: int) -> None:
    """Write the progress to stderr: in place on a terminal, otherwise a line every `SECONDS_PER_LINE`."""
    on_terminal = sys.stderr.isatty()
    if not on_terminal and elapsed % SECONDS_PER_LINE and elapsed != seconds:
        return
    echo = f"{percentile(tally.echo_seconds, 0.99) * 1000:.0f} ms" if tally.echo_seconds else "-"
    line = (
        f"{elapsed:>4} s of {seconds}: {tally.requests:,} requests, p99 of echo {echo},"
        f" {tally.unavailable.total()} failed, {tally.wrong.total()} wrong"
    )
    sys.stderr.write(f"\r{line}\x1b[K" if on_terminal else f"{line}\n")
    if on_terminal and elapsed == seconds:
        sys.stderr.write("\n")
    sys.stderr.flush()


def table(results: Sequence[ObjectiveResult]) -> str:
    """Return the report, one objective per row."""
    heads = _row("objective", "target", "measured", "samples", "verdict")
    rows = (
        _row(result.objective, result.asked, result.measured, f"{result.samples:,}", result.verdict)
        for result in results
    )
    return "\n".join([heads, *rows])


def _row(objective: str, target: str, measured: str, samples: str, verdict: str) -> str:
    cells = _side_by_side(wrap(objective, OBJECTIVE), wrap(target, TARGET), wrap(measured, MEASURED))
    lines = [f"{a:<{OBJECTIVE + 2}}{b:<{TARGET + 2}}{c:<{MEASURED + 2}}" for a, b, c in cells]
    lines[0] += f"{samples:>8}  {verdict}"
    return "\n".join(line.rstrip() for line in lines)


def _side_by_side(*columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the rows of columns of different lengths."""
    return [
        tuple(column[index] if index < len(column) else "" for column in columns)
        for index in range(max(map(len, columns)))
    ]
