"""Accounts: registering, signing in and out, changing the password."""

from typing import Annotated

import typer

from ..blocking_api import BlockingApi, connect
from ..durations import write_moment
from ..environment import NEW_PASSWORD, PASSWORD, TOKEN, read_variable
from ..errors import ExitCode
from ..options import shared_of
from ..output import say
from ..policy import Auth
from ..prompts import ask, ask_password

Username = Annotated[str | None, typer.Argument(metavar="USERNAME", help="Default: a prompt.", show_default=False)]


def register(
    context: typer.Context,
    username: Username = None,
    *,
    no_login: Annotated[bool, typer.Option("--no-login", help="Do not sign in afterwards.")] = False,
) -> None:
    """Create an account and sign in."""
    shared = shared_of(context)
    with connect(shared) as server:
        name = username or _ask_name()
        password = ask_password(PASSWORD, "Password", new=True)
        account = server.once(
            "POST",
            "/register",
            {"username": name, "password": password},
            auth=Auth.NONE,
            unsure=f"to find out, sign in: sealpost login {name}",
        )
        shared.output.done({**account, "url": server.url}, f"registered {account.text('username')} on {server.url}")
        if not no_login:
            _sign_in(server, name, password, silently=shared.json)


def login(context: typer.Context, username: Username = None) -> None:
    """Sign in and store the session on this machine."""
    shared = shared_of(context)
    with connect(shared) as server:
        name = username or _ask_name()
        _sign_in(server, name, ask_password(PASSWORD, "Password"), silently=shared.json)
        if shared.json:
            shared.output.records([{"username": name, "url": server.url}])


def logout(context: typer.Context) -> None:
    """Sign out: end the session on the server and delete it here."""
    shared = shared_of(context)
    with connect(shared) as server:
        if not server.run(server.session.end()):
            say(
                f"signed out here only: {server.url} could not end the session, which is still active there. To end it,"
                " sign in again and use `sealpost sessions list`"
            )
            raise typer.Exit(ExitCode.UNREACHABLE)
        shared.output.done({"url": server.url}, f"signed out of {server.url}")


def whoami(context: typer.Context) -> None:
    """Show the signed-in user and the server."""
    shared = shared_of(context)
    with connect(shared) as server:
        me = server.get("/me", auth=Auth.REQUIRED)
        if shared.json:
            shared.output.records([{**me, "url": server.url}])
            return
        fields = {"username": me.text("username"), "server": server.url, "user id": me.text("user_id")}
        fields["registered"] = write_moment(me.moment("created_at"))
        if me.has("last_login_at"):
            fields["last login"] = write_moment(me.moment("last_login_at"))
        shared.output.fields("Account", fields)


def passwd(context: typer.Context) -> None:
    """Change your password. All other sessions end; API tokens stay valid."""
    shared = shared_of(context)
    with connect(shared) as server:
        server.get("/me", auth=Auth.REQUIRED)
        body = {
            "current": ask_password(PASSWORD, "Current password"),
            "new": ask_password(NEW_PASSWORD, "New password", new=True),
        }
        server.once("PUT", "/me/password", body, unsure="to find out, sign in with the new password")
        shared.output.done({"changed": True}, "password changed; all other sessions have ended")


def _sign_in(server: BlockingApi, name: str, password: str, *, silently: bool) -> None:
    server.run(server.session.begin(name, password))
    if not silently:
        say(f"signed in to {server.url} as {name}")
    if read_variable(TOKEN):
        say(f"{TOKEN} is set: commands use that token instead of this session")


def _ask_name() -> str:
    return ask("Username", instead="give the username as an argument")
