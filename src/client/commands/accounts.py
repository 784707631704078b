"""Accounts: registering, signing in and out, changing the password."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import typer

from ..addresses import parse_invitation
from ..blocking_api import BlockingApi, connect, read_server_url
from ..durations import write_moment
from ..environment import NEW_PASSWORD, PASSWORD, TOKEN, read_variable
from ..errors import ClientError, ExitCode, WrongUsage
from ..options import shared_of
from ..output import say
from ..policy import Auth
from ..prompts import ask, ask_password, read_text

BROWSER_SECONDS = 300.0

Username = Annotated[str | None, typer.Argument(metavar="USERNAME", help="Default: a prompt.", show_default=False)]


def register(
    context: typer.Context,
    username: Username = None,
    *,
    invitation: Annotated[
        str | None, typer.Option("--invitation", metavar="TEXT", help="An invitation, or the link that has it.")
    ] = None,
    no_login: Annotated[bool, typer.Option("--no-login", help="Do not sign in afterwards.")] = False,
) -> None:
    """Create an account and sign in."""
    shared = shared_of(context)
    token, inviting = parse_invitation(invitation) if invitation else (None, None)
    if inviting and shared.url and inviting != read_server_url(shared.url):
        raise WrongUsage(f"the invitation is for {inviting}")
    with connect(replace(shared, url=inviting or shared.url)) as server:
        token = token or _invitation_needed(server)
        name = username or _ask_name()
        password = ask_password(PASSWORD, "Password", new=True)
        account = server.once(
            "POST",
            "/register",
            {"username": name, "password": password, **({"invitation": token} if token else {})},
            auth=Auth.NONE,
            unsure=f"to find out, sign in: sealpost login {name}",
        )
        shared.output.done({**account, "url": server.url}, f"registered {account.text('username')} on {server.url}")
        if not no_login:
            _sign_in(server, name, password, silently=shared.json)


def login(
    context: typer.Context,
    username: Username = None,
    *,
    browser: Annotated[bool, typer.Option("--browser", help="Sign in with the browser on this machine.")] = False,
    token_stdin: Annotated[
        bool, typer.Option("--token-stdin", help="Read an API token from stdin, and use it from now on.")
    ] = False,
) -> None:
    """Sign in and store the session on this machine."""
    shared = shared_of(context)
    if browser + token_stdin + (username is not None) > 1:
        raise typer.BadParameter("give only one of USERNAME, --browser and --token-stdin")
    with connect(shared) as server:
        if token_stdin:
            token = read_text(None, "API token", hidden=True).strip()
            server.run(server.session.keep_api_token(token))
            shared.output.done({"username": None, "url": server.url}, f"the API token is used for {server.url}")
            _warn_of_variable()
            return
        if browser:
            name = _sign_in_with_browser(server)
            _report(server, name, silently=shared.json)
        else:
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


def _invitation_needed(server: BlockingApi) -> str | None:
    """Return the invitation that the user types if the server requires one. Raises `WrongUsage`."""
    registration = server.get("/service").text("registration")
    if registration == "closed":
        raise WrongUsage(f"{server.url} does not allow registration: ask its operator for an account")
    if registration == "open":
        return None
    text = ask("Invitation", instead=f"{server.url} requires an invitation: use --invitation")
    return parse_invitation(text)[0]


def _sign_in(server: BlockingApi, name: str, password: str, *, silently: bool) -> None:
    server.run(server.session.begin(name, password))
    _report(server, name, silently=silently)


def _sign_in_with_browser(server: BlockingApi) -> str:
    """Return the name of the user who signs in with the browser. Raises `ClientError`."""
    import asyncio  # noqa: PLC0415
    import webbrowser  # noqa: PLC0415

    from ..loopback import Loopback  # noqa: PLC0415

    if "accounts" not in server.get("/service").texts("features"):
        raise WrongUsage(f"{server.url} has no accounts")

    async def sign_in() -> str:
        async with Loopback() as loopback:
            page = loopback.page(server.url)
            say(f"sign in with your browser, within {BROWSER_SECONDS // 60:g} minutes: {page}")
            if has_browser(os.environ):
                await asyncio.to_thread(webbrowser.open, page)
            try:
                async with asyncio.timeout(BROWSER_SECONDS):
                    code = await loopback.code()
            except TimeoutError:
                raise ClientError("the browser did not answer in time. Try again") from None
            return await server.session.begin_with_code(code, loopback.verifier)

    return server.run(sign_in())


def has_browser(environment: Mapping[str, str]) -> bool:
    """Return whether a browser with windows can be opened; one in the terminal would run no scripts."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


def _report(server: BlockingApi, name: str, *, silently: bool) -> None:
    if not silently:
        say(f"signed in to {server.url} as {name}")
    _warn_of_variable()


def _warn_of_variable() -> None:
    if read_variable(TOKEN):
        say(f"{TOKEN} is set: commands use that token instead of this session")


def _ask_name() -> str:
    return ask("Username", instead="give the username as an argument")
