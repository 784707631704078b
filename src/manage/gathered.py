"""``gathered``: count and export the messages of programs."""

import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import typer

from ..accounts.directory import UserDirectory
from ..accounts.users import UserStore
from ..core.database.group_commit import group_commit
from ..core.files import replacing
from ..gatherer.bundle import BundleSealer
from ..gatherer.bundle_reader import BundleReader, Span
from ..gatherer.export import Export
from ..gatherer.schemas import parse_time
from .output import CommandError, progress, say, show_line
from .runner import CommandContext, run_command

MESSAGES = "messages"

T = TypeVar("T")


def _time(text: str) -> datetime:
    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Since = Annotated[
    datetime | None, typer.Option(parser=_time, metavar="TIME", help="Only messages received at or after TIME.")
]
Until = Annotated[
    datetime | None, typer.Option(parser=_time, metavar="TIME", help="Only messages received before TIME.")
]
Username = Annotated[str | None, typer.Option(metavar="NAME", help="Only messages of this sender.")]

app = typer.Typer(
    help="Count and export gathered messages. TIME is a date such as 2026-03-01, or a time with a zone such as"
    " 2026-03-01T09:30:00Z.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def count(*, since: Since = None, until: Until = None, username: Username = None) -> None:
    """Print the number of messages, without expired ones."""

    async def command(reader: BundleReader, _: Export, span: Span) -> int:
        return await reader.count(span)

    show_line(str(_on_gathered(since, until, username, command)))


@app.command()
def export(
    *,
    since: Since = None,
    until: Until = None,
    username: Username = None,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write to this file instead of standard output, completely or not at all."),
    ] = None,
) -> None:
    """Export messages as JSON, one per line, oldest first."""

    async def command(reader: BundleReader, export: Export, span: Span) -> int:
        total, done = await reader.count(span), 0
        with _destination(output) as file, progress() as report:
            async for chunk in export.chunks(span):
                file.write(chunk)
                done += chunk.count(b"\n")
                report(MESSAGES, done, max(done, total))
        return done

    try:
        written = _on_gathered(since, until, username, command)
    except BrokenPipeError:
        # Otherwise Python reports the closed pipe again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandError("the export is incomplete: the reader closed the pipe") from None
    say(f"wrote {written} {'message' if written == 1 else MESSAGES}")


def _on_gathered(
    since: datetime | None,
    until: datetime | None,
    username: str | None,
    command: Callable[[BundleReader, Export, Span], Awaitable[T]],
) -> T:
    async def connected(context: CommandContext) -> T:
        settings, ring, mongo = context.settings, context.ring, context.mongo
        users = UserStore(mongo, ring, group_commit(max_batch=settings.batch_max, max_queue=settings.batch_queue))
        user_id = None
        if username is not None:
            user = await users.find_by_name(username)
            if user is None:
                raise CommandError(f"there is no user {username}")
            user_id = user.user_id
        reader = BundleReader(mongo)
        return await command(
            reader, Export(reader, BundleSealer(ring), UserDirectory(users).names), Span(since, until, user_id)
        )

    if since and until and until < since:
        raise typer.BadParameter("--until must not be before --since")
    return run_command(connected)


@contextmanager
def _destination(path: Path | None) -> Iterator[BinaryIO]:
    """Yield the output: standard output, or a file of mode 0600 that appears when it is complete."""
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with replacing(path) as file:
        yield file
