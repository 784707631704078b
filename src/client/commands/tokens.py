"""API tokens, for programs that cannot sign in."""

from typing import Annotated, Any

import typer

from ..addresses import parse_id
from ..blocking_api import connect
from ..durations import write_minute
from ..options import Command, Group, shared_of
from ..output import say
from ..policy import Auth

NO_TOKEN = {"token_not_found": "no such token. See: sealpost tokens list"}
SCOPES = ("secrets", "messages", "posts", "gather", "echo")

app = typer.Typer(
    cls=Group, help="Create, list and delete API tokens, for programs that cannot sign in.", no_args_is_help=True
)


@app.command("list", cls=Command)
def list_tokens(context: typer.Context) -> None:
    """List your API tokens, newest first; the tokens themselves are not shown."""
    shared = shared_of(context)
    with connect(shared) as server:
        tokens = server.get("/tokens", auth=Auth.REQUIRED).records("tokens")
    if shared.json:
        shared.output.records(tokens)
        return
    rows = [
        [
            token.text("name"),
            " ".join(token.texts("scopes")),
            write_minute(token.moment("created_at")),
            write_minute(token.moment("expires_at")) if token.has("expires_at") else "-",
            write_minute(token.moment("last_used_at")) if token.has("last_used_at") else "-",
            token.text("id"),
        ]
        for token in tokens
    ]
    shared.output.table(("name", "scopes", "created", "expires", "last used", "id"), rows)


@app.command("create", cls=Command)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name to recognize the token by.", show_default=False)],
    *,
    scopes: Annotated[
        list[str],
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help=f"What the token permits; repeatable: {', '.join(SCOPES)}.",
            autocompletion=lambda: list(SCOPES),
        ),
    ],
    days: Annotated[
        int | None,
        typer.Option("--days", metavar="N", min=1, help="Lifetime in days. Default: no expiry."),
    ] = None,
) -> None:
    """Create an API token and show it once."""
    shared = shared_of(context)
    body: dict[str, Any] = {"name": name, "scopes": scopes}
    if days is not None:
        body["expires_in_days"] = days
    with connect(shared) as server:
        unsure = "check `sealpost tokens list`, and delete a token that you did not get"
        created = server.once("POST", "/tokens", body, unsure=unsure)
    if shared.json:
        shared.output.records([created])
        return
    shared.output.line(created.text("token"))
    say("store it like a password: it is not shown again")


@app.command("delete", cls=Command)
def delete(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="Shown by `tokens list`.", show_default=False)],
) -> None:
    """Delete an API token; the server rejects it from then on."""
    shared, found = shared_of(context), parse_id(token_id)
    with connect(shared) as server:
        server.delete(f"/tokens/{found}", auth=Auth.REQUIRED, words=NO_TOKEN)
    shared.output.done({"deleted": found}, "token deleted")
