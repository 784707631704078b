"""``audit``: export the events that the audit has recorded."""

from typing import Annotated

import typer

from ..accounts.directory import UserDirectory
from ..accounts.users import UserStore
from ..audit.export import AuditExport
from ..audit.reader import AuditReader, Selection
from ..audit.records import AuditSealer
from ..core.audit import AuditKind
from ..core.database.group_commit import group_commit
from .exporting import TIME_HELP, Output, Since, Until, check_span, destination
from .output import CommandError, say
from .runner import CommandContext, run_command

app = typer.Typer(help=f"Export the audit. {TIME_HELP}", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def audit() -> None:
    """Keep the subcommand's name in the command line although it is the only one."""


@app.command()
def export(
    *,
    since: Since = None,
    until: Until = None,
    kind: Annotated[AuditKind | None, typer.Option(metavar="KIND", help="Only events of this kind.")] = None,
    user: Annotated[
        str | None, typer.Option(metavar="USER", help="Only events of the user with this username or id.")
    ] = None,
    output: Output = None,
) -> None:
    """Export events as JSON, one per line, oldest first."""

    async def command(context: CommandContext) -> int:
        settings, ring, mongo = context.settings, context.ring, context.mongo
        if not settings.audit_ttl:
            raise CommandError("the audit is off: SEALPOST_AUDIT_TTL is 0")
        users = UserStore(mongo, ring, group_commit(max_batch=settings.batch_max, max_queue=settings.batch_queue))
        audit = AuditExport(AuditReader(mongo, AuditSealer(ring)), UserDirectory(users))
        selected = None if user is None else await audit.find_users(user)
        if selected is not None and not selected:
            raise CommandError(f"there is no user {user}")
        done = 0
        with destination(output) as file:
            async for chunk in audit.chunks(Selection(since, until, kind, selected)):
                file.write(chunk)
                done += chunk.count(b"\n")
        return done

    check_span(since, until)
    written = run_command(command, feature="accounts")
    say(f"wrote {written} {'event' if written == 1 else 'events'}")
