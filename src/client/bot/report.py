"""The report of a run, as text and as JSON, and the progress bars."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from ..errors import ClientError, ExitCode, Interrupted, Unreachable
from ..output import Output
from .tally import Check, Findings, Row, Tally

MOST_NAMED = 20
DIGITS = 1

Bars = Callable[[str, int], Callable[[], None]]
"""Starts a bar with a name and a length, and returns the function that advances it by 1."""


class ServerWrong(ClientError):
    """The server broke a promise."""

    exit_code = ExitCode.REFUSED


@dataclass
class Ending:
    """How a run ended. Its usernames begin with ``prefix``."""

    prefix: str
    seconds: float = 0.0
    gave_up: str = ""
    interrupted: bool = False
    accounts_left: int = 0


@dataclass(frozen=True)
class RunReport:
    """All results of a run; ``given`` are its options."""

    given: dict[str, object]
    tally: Tally
    findings: Findings
    ending: Ending

    def show(self, output: Output) -> None:
        """Write the report to stdout."""
        if output.as_json:
            output.records([self.record()])
            return
        heads = ("action", "requests", "errors", "p50 ms", "p95 ms", "p99 ms")
        output.table(heads, map(_cells, self.tally.rows()), numbers=len(heads) - 1)
        if self.tally.errors:
            output.line("")
            rows = [(kind, action, str(count)) for (action, kind), count in sorted(self.tally.errors.items())]
            output.table(("error", "action", "count"), rows, numbers=1)
        output.line("")
        output.table(("check", "right", "wrong", "not checked"), self._checks(), numbers=3)
        for _, fault in self.findings.wrong[:MOST_NAMED]:
            output.line(f"wrong: {fault}")
        if len(self.findings.wrong) > MOST_NAMED:
            output.line(f"wrong: and {len(self.findings.wrong) - MOST_NAMED} more")

    def record(self) -> dict[str, object]:
        """Return the report for JSON."""
        rows = [asdict(row) for row in self.tally.rows()]
        error = self.error()
        return {
            **self.given,
            "names_begin_with": self.ending.prefix,
            "seconds": round(self.ending.seconds, DIGITS),
            "requests": {row.pop("action"): row for row in rows},
            "errors": [
                {"action": action, "error": kind, "times": count}
                for (action, kind), count in sorted(self.tally.errors.items())
            ],
            "checks": {
                check.value: {
                    "right": self.findings.right[check],
                    "wrong": self.findings.wrong_of(check),
                    "not_checked": self.findings.unchecked[check],
                }
                for check in Check
            },
            "wrong": [fault for _, fault in self.findings.wrong],
            "failed": self.tally.failed,
            "refused": self.tally.refused,
            "gave_up": self.ending.gave_up or None,
            "interrupted": self.ending.interrupted,
            "accounts_left": self.ending.accounts_left,
            "exit_code": int(error.exit_code if error else ExitCode.OK),
        }

    def words(self) -> str:
        """Return a sentence for a run without errors."""
        requests, checks = self.tally.rows()[-1].requests, self.findings.right.total()
        return f"all {checks} checks passed, after {requests} requests in {self.ending.seconds:.1f} s"

    def error(self) -> ClientError | None:
        """Return the error to exit with; None if everything was done and every check passed."""
        findings, ending = self.findings, self.ending
        if findings.wrong:
            also = f". It also gave up: {ending.gave_up}" if ending.gave_up else ""
            return ServerWrong(f"the server failed its checks: {_count(len(findings.wrong), 'fault')}{also}")
        if self.tally.refused:
            return ServerWrong(
                f"the server rejected {_count(self.tally.refused, 'valid request')}; see the errors above"
            )
        so_far = "all checks so far passed" if findings.right else "nothing could be checked"
        if ending.interrupted:
            return Interrupted(f"interrupted; {so_far}")
        if ending.gave_up:
            return Unreachable(f"gave up: {ending.gave_up.rstrip('.')}")
        if self.tally.failed or findings.unchecked:
            return Unreachable(f"the run is incomplete: {_count(self.tally.failed, 'request')} failed; {so_far}")
        return None

    def _checks(self) -> list[tuple[str, ...]]:
        found = self.findings
        counts = {check: (found.right[check], found.wrong_of(check), found.unchecked[check]) for check in Check}
        return [(check, *map(str, numbers)) for check, numbers in counts.items()]


@contextmanager
def bars(*, shown: bool, no_color: bool) -> Iterator[Bars]:
    """Show bars on stderr, if it is a terminal and ``shown`` is set."""
    if not shown or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _name, _length: _do_nothing
        return
    from rich.console import Console  # noqa: PLC0415 (a tenth of a second, for terminals only)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True, no_color=no_color or None)
    columns = (TextColumn("{task.description:<21}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # Messages appear above the bars; stdout is for the report only.
    with Progress(*columns, console=console, redirect_stdout=False) as progress:

        def begin(name: str, length: int) -> Callable[[], None]:
            task = progress.add_task(name, total=length)
            return lambda: progress.advance(task)

        yield begin


def _cells(row: Row) -> tuple[str, ...]:
    times = ("-" if time is None else f"{time:.1f}" for time in (row.p50, row.p95, row.p99))
    return (row.action, str(row.requests), str(row.errors), *times)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _do_nothing() -> None:
    pass
