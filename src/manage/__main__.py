"""The command line, ``python -m src.manage``: results go to stdout, everything else to stderr."""

import sys
from collections.abc import Sequence

import typer
from typer.main import get_command

from ..accounts.administration import AdministrationError
from ..core.database.embedded import MongodError
from ..core.database.mongo import Unfit
from ..core.database.purging import purge
from ..errors import Conflict, Damaged, Unavailable
from ..settings import SettingsError
from ..storage import INDEXES
from . import audit, gathered, keys, posts, restart, users
from .doctor.command import doctor
from .output import CommandError, error_location, say, show_table
from .runner import CommandContext, run_command

INTERRUPTED = 130

app = typer.Typer(
    help="Administer a Sealpost service. Reads the same settings as the service: see .env.example.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(users.app, name="users")
app.add_typer(keys.app, name="keys")
app.add_typer(posts.app, name="posts")
app.add_typer(gathered.app, name="gathered")
app.add_typer(audit.app, name="audit")


@app.command("purge")
def purge_expired() -> None:
    """Delete expired documents of every collection now, and print how many.

    MongoDB deletes them anyway within a minute or two, and they cannot be read until then.
    """

    async def command(context: CommandContext) -> list[tuple[str, int]]:
        return [deleted async for deleted in purge(context.mongo, INDEXES)]

    show_table(["collection", "deleted"], [[name, str(count)] for name, count in run_command(command)])


app.command("restart")(restart.restart_workers)
app.command()(doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 success, 1 failure or partial failure, 2 invalid arguments or settings, 130 interrupted.
    """
    try:
        code = _run(arguments)
    except SettingsError as error:
        say(str(error))
        return 2
    except Unavailable:
        say("MongoDB does not answer. Check that it is running and reachable at SEALPOST_MONGO_URL, then try again.")
    except (AdministrationError, CommandError, MongodError, Conflict, Damaged, Unfit) as error:
        say(str(error))
    except OSError as error:
        say(f"{error.filename or 'a file'} cannot be used: {error.strerror}")
    except Exception as error:  # noqa: BLE001 (no traceback: it could show a secret)
        say(f"unexpected error: {type(error).__name__} in {error_location(error)}")
    else:
        if code == INTERRUPTED:
            say("interrupted. The database is consistent; you can run the command again.")
        return code
    return 1


def _run(arguments: Sequence[str] | None) -> int:
    try:
        get_command(app).main(args=arguments, prog_name=f"python -m {__package__}")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
