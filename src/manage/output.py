"""What a command shows: results on stdout, and on stderr what is said about them."""

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
"""Width for what is not a terminal: a program that reads a table wants no line broken."""


class CommandError(Exception):
    """A command cannot do what it was asked for; the message says why."""


def say(text: str) -> None:
    """Tell the operator something that is no result."""
    sys.stderr.write(f"sealpost: {text}\n")
    sys.stderr.flush()


def show_line(text: str) -> None:
    """Write one line of results."""
    sys.stdout.write(f"{text}\n")


def show_records(records: Iterable[Mapping[str, object]]) -> None:
    """Write records as JSON, one a line."""
    for record in records:
        show_line(json.dumps(record, default=_as_json))


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, highlight=False, width=UNBOUNDED)
    table = Table(*heads, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*row)
    console.print(table)


def place(error: Exception) -> str:
    """Return the line of code that raised an error: all of it that can be shown, for the rest may be secret."""
    line = traceback.extract_tb(error.__traceback__)[-1]
    return f"{line.filename}:{line.lineno}"


def in_words(moment: datetime | None) -> str:
    """Write a moment for a person: to the second, in UTC."""
    return f"{moment:%Y-%m-%d %H:%M:%S}Z" if moment else "-"


@contextmanager
def progress() -> Iterator[Report]:
    """Show how far a long command is: a bar on a terminal, elsewhere a line now and then."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield _Lines().report
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        tasks: dict[str, TaskID] = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total)
            bar.update(tasks[name], completed=done, total=total)

        yield report


class _Lines:
    """Says something at each tenth of the way."""

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
