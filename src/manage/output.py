"""Output of commands: results on stdout, everything else on stderr."""

import json
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..core.database.resealing import Report

UNBOUNDED = 1000
"""Width if stdout is not a terminal, so that no line is wrapped."""


class CommandError(Exception):
    """A command failed; the message says why."""


def say(text: str) -> None:
    """Print a message to stderr."""
    sys.stderr.write(f"sealpost: {text}\n")
    sys.stderr.flush()


def show_line(text: str) -> None:
    """Print one line of results."""
    sys.stdout.write(f"{text}\n")


def show_records(records: Iterable[Mapping[str, object]]) -> None:
    """Print records as JSON, one per line."""
    for record in records:
        show_line(json.dumps(record, default=_as_json))


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, highlight=False, width=UNBOUNDED)
    table = Table(*heads, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    console.print(table)


def error_location(error: Exception) -> str:
    """Return the file and line that raised an error. Its message may contain a secret and is not shown."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    return f"{line.filename}:{line.lineno}"


def format_time(moment: datetime | None) -> str:
    """Format a time in UTC, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if moment else "-"


@contextmanager
def progress() -> Iterator[Report]:
    """Show the progress of a long command: a bar on a terminal, elsewhere a line at each 10 %."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield _ProgressLines().report
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield report


class _ProgressLines:
    """Prints a line at each 10 %."""

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None

    def report(self, name: str, done: int, total: int) -> None:
        now = (name, done * 10 // total if total else 10)
        if now != self._said:
            self._said = now
            say(f"{name}: {done} of {total}")


def _as_json(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError
