"""Progress bars on stderr, if it is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..output import make_harmless
from .sizes import write_size

Report = Callable[[str, int, int], None]
"""Takes the name of the current file, the bytes of the files before it, and its own bytes so far."""
_BAR_WIDTH = 20


@contextmanager
def show_progress(verb: str, total: int, *, no_color: bool) -> Iterator[Report]:
    """Show the progress of a transfer of ``total`` bytes until the block ends."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415 (a tenth of a second, for terminals only)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    console = Console(stderr=True, no_color=no_color or None, markup=False, emoji=False, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=_BAR_WIDTH),
        TextColumn("{task.fields[amount]}", table_column=Column(no_wrap=True)),
        TimeRemainingColumn(compact=True),
    )
    amount = write_size(total)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, expand=True) as bars:
        task = bars.add_task(verb, total=total, amount=amount)

        def report(name: str, before: int, done: int) -> None:
            whole = min(total, before + done)
            speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
            bars.update(
                task,
                description=f"{verb} {make_harmless(name)}",
                completed=whole,
                amount=f"{write_size(whole)} of {amount}" + (f", {write_size(round(speed))}/s" if speed else ""),
            )

        yield report
