"""Sending to the gatherer: from a menu, or line by line from stdin."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..addresses import parse_username
from ..errors import WrongUsage
from ..options import shared_of

MIB = 1024 * 1024
SPOOL_MIB = 256


def gather(
    context: typer.Context,
    *,
    user: Annotated[
        str | None, typer.Option("--user", metavar="USERNAME", help="The sender of the messages.", show_default=False)
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Send each line of stdin as it arrives.")] = False,
    spool: Annotated[
        Path | None,
        typer.Option(
            "--spool", metavar="DIR", help="Directory for lines that are not delivered yet.", show_default=False
        ),
    ] = None,
    spool_limit: Annotated[
        int | None,
        typer.Option(
            "--spool-limit", metavar="MIB", min=1, help=f"Size limit of the spool; {SPOOL_MIB} MiB by default."
        ),
    ] = None,
) -> None:
    """Send messages to the gatherer: from a menu, or with --follow each line of stdin."""
    shared = shared_of(context)
    username = None if user is None else parse_username(user)
    if follow:
        if username is None:
            raise WrongUsage("--follow needs --user USERNAME, the sender of the lines")
        try:
            from ..gathering.following import follow_stdin  # noqa: PLC0415 (aiohttp is slow to import)
        except ModuleNotFoundError as error:
            if error.name != "fcntl":
                raise
            raise WrongUsage("--follow needs POSIX file locks: use Linux, macOS or WSL") from None
        raise typer.Exit(follow_stdin(shared, username, spool, limit=(spool_limit or SPOOL_MIB) * MIB))
    if spool is not None or spool_limit is not None or shared.json:
        raise WrongUsage("--spool, --spool-limit and --json require --follow")
    if sys.stdin is None or not sys.stdin.isatty():
        raise WrongUsage("stdin is not a terminal: add --follow to send its lines")
    from ..gathering.menu import run_menu  # noqa: PLC0415

    run_menu(shared, username)
