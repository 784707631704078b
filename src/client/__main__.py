"""The command line, ``python -m src.client``."""

import functools
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.main import get_command

from .. import __version__
from .commands import (
    accounts,
    auth,
    bot,
    created,
    echo,
    gather,
    messages,
    my_secrets,
    posts,
    secrets,
    sessions,
    sharing,
    tokens,
)
from .errors import ClientError, ExitCode
from .options import Command, Group, KeyCommand
from .output import say

# Cached for a process that calls `main` repeatedly, such as the tests.
command_of = functools.cache(get_command)
PROGRAM = "sealpost"
SECRETS, ACCOUNT, POSTS = "Secrets and messages", "Account", "Posts"
GATHERING, TESTING = "Log lines", "Testing a server"

app = typer.Typer(
    cls=Group,
    help="Share one-time secrets and use the other features of a Sealpost server.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def add(name: str, function: Callable[..., None], panel: str, *, cls: type[Command] = Command) -> None:
    """Register a command in a panel of the help."""
    app.command(name, cls=cls, rich_help_panel=panel)(function)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{PROGRAM} {__version__}\n")
        raise typer.Exit


@app.callback()
def begin(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Accept the options before a command's name."""


add("share", sharing.share, SECRETS)
add("open", secrets.open_link, SECRETS, cls=KeyCommand)
add("receipt", created.show_receipt, SECRETS, cls=KeyCommand)
add("burn", created.burn, SECRETS, cls=KeyCommand)
app.add_typer(messages.app, name="message", rich_help_panel=SECRETS)
app.add_typer(my_secrets.app, name="secrets", rich_help_panel=SECRETS)
add("register", accounts.register, ACCOUNT)
add("login", accounts.login, ACCOUNT)
add("logout", accounts.logout, ACCOUNT)
add("whoami", accounts.whoami, ACCOUNT)
add("passwd", accounts.passwd, ACCOUNT)
app.add_typer(auth.app, name="auth", rich_help_panel=ACCOUNT)
app.add_typer(sessions.app, name="sessions", rich_help_panel=ACCOUNT)
app.add_typer(tokens.app, name="tokens", rich_help_panel=ACCOUNT)
add("post", posts.publish, POSTS)
add("feed", posts.feed, POSTS)
add("like", posts.like, POSTS)
add("dislike", posts.dislike, POSTS)
add("unreact", posts.unreact, POSTS)
add("delete-post", posts.delete_post, POSTS)
add("gather", gather.gather, GATHERING)
add("echo", echo.echo, TESTING)
add("bot", bot.bot, TESTING)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code, one of `ExitCode`."""
    for stream in (sys.stdout, sys.stderr):
        # A character that the terminal's encoding lacks must not raise an error.
        reconfigure: Callable[..., Any] | None = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")
    try:
        return _run(arguments)
    except ClientError as error:
        if str(error):
            say(str(error))
        return error.exit_code
    except Exception as error:  # noqa: BLE001 (a traceback may contain secrets)
        place = traceback.extract_tb(error.__traceback__)[-1]
        say(f"unexpected error: {type(error).__name__} in {place.filename}:{place.lineno}")
        return ExitCode.REFUSED


def _run(arguments: Sequence[str] | None) -> int:
    try:
        command_of(app).main(args=arguments, prog_name=PROGRAM)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else ExitCode.OK
    return ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
