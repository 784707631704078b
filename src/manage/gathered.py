"""``gathered``: count and export the messages of programs."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, TypeVar

import typer

from ..accounts.directory import UserDirectory
from ..accounts.users import UserStore
from ..core.database.group_commit import group_commit
from ..gatherer.bundle import BundleSealer
from ..gatherer.bundle_reader import BundleReader, Span
from ..gatherer.export import Export
from .exporting import TIME_HELP, Output, Since, Until, check_span, destination
from .output import CommandError, progress, say, show_line
from .runner import CommandContext, run_command

MESSAGES = "messages"

T = TypeVar("T")


Username = Annotated[str | None, typer.Option(metavar="NAME", help="Only messages of this sender.")]

app = typer.Typer(
    help=f"Count and export gathered messages. {TIME_HELP}",
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
    output: Output = None,
) -> None:
    """Export messages as JSON, one per line, oldest first."""

    async def command(reader: BundleReader, export: Export, span: Span) -> int:
        total, done = await reader.count(span), 0
        with destination(output) as file, progress() as report:
            async for chunk in export.chunks(span):
                file.write(chunk)
                done += chunk.count(b"\n")
                report(MESSAGES, done, max(done, total))
        return done

    written = _on_gathered(since, until, username, command)
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

    check_span(since, until)
    return run_command(connected, feature="gatherer")
