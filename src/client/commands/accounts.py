"""Signing in and out, and one's account."""

from typing import Annotated

import typer

from ..durations import write_moment
from ..environment import PASSWORD
from ..errors import ExitCode
from ..options import shared_of
from ..output import Output, say
from ..prompts import ask_line, secret_input

Username = Annotated[
    str | None, typer.Argument(metavar="[USERNAME]", help="Asked for where it is left out.", show_default=False)
]


def login(context: typer.Context, username: Username = None) -> None:
    """Sign in, and stay signed in on this machine."""
    from ..connection import connect  # noqa: PLC0415

    shared = shared_of(context)
    with connect(shared) as server:
        name = username or ask_line("Username", instead="give the name as an argument")
        server.run(server.session.begin(name, secret_input(PASSWORD, "Password")))
        if shared.json:
            Output(as_json=True).records([{"url": server.url, "username": name}])
        say(f"signed in to {server.url} as {name}")


def logout(context: typer.Context) -> None:
    """Sign out, here and on the server."""
    from ..connection import connect  # noqa: PLC0415

    with connect(shared_of(context)) as server:
        if not server.run(server.session.end()):
            say(
                f"signed out here, but {server.url} could not be told, and the session lives on there. Sign in once"
                " more to end it: sealpost sessions list"
            )
            raise typer.Exit(ExitCode.UNREACHABLE)
        say(f"signed out of {server.url}")


def whoami(context: typer.Context) -> None:
    """Show who is signed in, and where."""
    from ..api import Auth  # noqa: PLC0415
    from ..connection import connect  # noqa: PLC0415

    shared = shared_of(context)
    with connect(shared) as server:
        me = server.get("/me", auth=Auth.NEEDED)
        output = Output(as_json=shared.json, no_color=shared.no_color)
        if shared.json:
            output.records([{**me, "url": server.url}])
            return
        output.fields(
            "Account",
            {
                "username": me.text("username"),
                "server": server.url,
                "user id": me.text("user_id"),
                "created": write_moment(me.moment("created_at")),
                "last login": write_moment(me.moment("last_login_at")) if me.optional("last_login_at") else "-",
            },
        )
