"""Progress bars on stderr, if it is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..output import make_harmless

Report = Callable[[str, int, int], None]
"""Takes the name of the current file, the bytes of the files before it, and its own bytes so far."""
_LONGEST_NAME = 40


@contextmanager
def show_progress(verb: str, total: int, *, no_color: bool) -> Iterator[Report]:
    """Show the progress of a transfer of ``total`` bytes until the block ends."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console  # noqa: PLC0415 (a tenth of a second, for terminals only)
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True, no_color=no_color or None, markup=False, emoji=False, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bars:
        task = bars.add_task(verb, total=total)

        def report(name: str, before: int, done: int) -> None:
            bars.update(
                task, description=f"{verb} {_shorten(make_harmless(name))}", completed=min(total, before + done)
            )

        yield report


def _shorten(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else f"…{name[1 - _LONGEST_NAME:]}"
