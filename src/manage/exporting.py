"""What the commands that export lines have in common: their options, and where they write."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from ..api.times import parse_time
from ..core.files import replacing
from .output import CommandError

TIME_HELP = "TIME is a date such as 2026-03-01, or a time with a zone such as 2026-03-01T09:30:00Z."


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Since = Annotated[
    datetime | None, typer.Option(parser=_time, metavar="TIME", help="Only what happened at or after TIME.")
]
Until = Annotated[datetime | None, typer.Option(parser=_time, metavar="TIME", help="Only what happened before TIME.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write to this file instead of standard output, completely or not at all."),
]


def check_span(since: datetime | None, until: datetime | None) -> None:
    """Raise `BadParameter` for a span that ends before it begins."""
    if since and until and until < since:
        raise typer.BadParameter("--until must not be before --since")


@contextmanager
def destination(path: Path | None) -> Iterator[BinaryIO]:
    """Yield the output: standard output, or a file of mode 0600 that appears when it is complete.

    Raises `CommandError` if the reader of standard output closes it.
    """
    if path is not None:
        with replacing(path) as file:
            yield file
        return
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Otherwise Python reports the closed pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandError("the export is incomplete: the reader closed the pipe") from None
