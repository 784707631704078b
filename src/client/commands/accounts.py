"""Signing in and out, and one's account."""

from typing import Annotated

import typer

from ..blocking_api import BlockingApi, connect
from ..durations import write_moment
from ..environment import NEW_PASSWORD, PASSWORD, TOKEN, read_variable
from ..errors import ExitCode
from ..options import shared_of
from ..output import say
from ..policy import Auth
from ..prompts import ask, ask_secret

Username = Annotated[
    str | None, typer.Argument(metavar="USERNAME", help="Asked for where it is left out.", show_default=False)
]


def register(
    context: typer.Context,
    username: Username = None,
    *,
    no_login: Annotated[bool, typer.Option("--no-login", help="Do not sign in afterwards.")] = False,
) -> None:
    """Make an account, and sign in."""
    shared = shared_of(context)
    with connect(shared) as server:
        name = username or _ask_name()
        password = ask_secret(PASSWORD, "Password", new=True)
        account = server.once(
            "POST",
            "/register",
            {"username": name, "password": password},
            auth=Auth.NONE,
            unsure=f"sign in, and you will know: sealpost login {name}",
        )
        shared.output.done({**account, "url": server.url}, f"registered {account.text('username')} on {server.url}")
        if not no_login:
            _sign_in(server, name, password, silently=shared.json)


def login(context: typer.Context, username: Username = None) -> None:
    """Sign in, and stay signed in on this machine."""
    shared = shared_of(context)
    with connect(shared) as server:
        name = username or _ask_name()
        _sign_in(server, name, ask_secret(PASSWORD, "Password"), silently=shared.json)
        if shared.json:
            shared.output.records([{"username": name, "url": server.url}])


def logout(context: typer.Context) -> None:
    """Sign out, here and on the server."""
    shared = shared_of(context)
    with connect(shared) as server:
        if not server.run(server.session.end()):
            say(
                f"signed out here, but {server.url} could not be told, and the session lives on there. To end it, sign"
                " in once more: sealpost sessions list"
            )
            raise typer.Exit(ExitCode.UNREACHABLE)
        shared.output.done({"url": server.url}, f"signed out of {server.url}")


def whoami(context: typer.Context) -> None:
    """Show who is signed in, and where."""
    shared = shared_of(context)
    with connect(shared) as server:
        me = server.get("/me", auth=Auth.NEEDED)
        if shared.json:
            shared.output.records([{**me, "url": server.url}])
            return
        fields = {"username": me.text("username"), "server": server.url, "user id": me.text("user_id")}
        fields["registered"] = write_moment(me.moment("created_at"))
        if me.has("last_login_at"):
            fields["last login"] = write_moment(me.moment("last_login_at"))
        shared.output.fields("Account", fields)


def passwd(context: typer.Context) -> None:
    """Change the password; every other session ends, and API tokens stay."""
    shared = shared_of(context)
    with connect(shared) as server:
        server.get("/me", auth=Auth.NEEDED)
        body = {
            "current": ask_secret(PASSWORD, "Present password"),
            "new": ask_secret(NEW_PASSWORD, "New password", new=True),
        }
        server.once("PUT", "/me/password", body, unsure="sign in with the new password, and you will know")
        shared.output.done({"changed": True}, "the password is changed, and every other session has ended")


def _sign_in(server: BlockingApi, name: str, password: str, *, silently: bool) -> None:
    server.run(server.session.begin(name, password))
    if not silently:
        say(f"signed in to {server.url} as {name}")
    if read_variable(TOKEN):
        say(f"{TOKEN} is set: as long as it is, commands use that token and not the sign-in")


def _ask_name() -> str:
    return ask("Username", instead="give the name as an argument")
