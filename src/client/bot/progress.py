"""The bars that a person sees while a run goes on."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Bars = Callable[[str, int], Callable[[], None]]
"""Begins a bar with a name and a length, and returns what moves it on by one."""


@contextmanager
def bars(*, shown: bool, no_color: bool) -> Iterator[Bars]:
    """Show bars on stderr where a person sees them, and where they are wanted at all."""
    if not shown or sys.stderr is None or not sys.stderr.isatty():
        yield lambda _name, _length: _do_nothing
        return
    from rich.console import Console  # noqa: PLC0415 (a tenth of a second, for people alone)
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    console = Console(stderr=True, no_color=no_color or None)
    columns = (TextColumn("{task.description:<21}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # What is said meanwhile stands above the bars; stdout is for the report alone.
    with Progress(*columns, console=console, redirect_stdout=False) as progress:

        def begin(name: str, length: int) -> Callable[[], None]:
            task = progress.add_task(name, total=length)
            return lambda: progress.advance(task)

        yield begin


def _do_nothing() -> None:
    pass
