"""Sessions of the signed-in user."""

from typing import Annotated

import typer

from ..addresses import parse_id
from ..blocking_api import connect
from ..durations import write_minute
from ..options import Command, Group, shared_of
from ..policy import Auth

NO_SESSION = {"session_not_found": "no such session. See: sealpost sessions list"}

app = typer.Typer(cls=Group, help="List and end your sessions.", no_args_is_help=True)


@app.command("list", cls=Command)
def list_sessions(context: typer.Context) -> None:
    """List your sessions, newest first."""
    shared = shared_of(context)
    with connect(shared) as server:
        sessions = server.get("/sessions", auth=Auth.REQUIRED).records("sessions")
    if shared.json:
        shared.output.records(sessions)
        return
    rows = [
        [
            write_minute(session.moment("created_at")),
            write_minute(session.moment("refreshed_at")),
            write_minute(session.moment("expires_at")),
            "current" if session.flag("current") else "",
            session.text("id"),
        ]
        for session in sessions
    ]
    shared.output.table(("created", "refreshed", "expires", "", "id"), rows)


@app.command("end", cls=Command)
def end(
    context: typer.Context,
    session_id: Annotated[str, typer.Argument(metavar="ID", help="Shown by `sessions list`.", show_default=False)],
) -> None:
    """End a session; its client has to sign in again."""
    shared, found = shared_of(context), parse_id(session_id)
    with connect(shared) as server:
        server.delete(f"/sessions/{found}", auth=Auth.REQUIRED, words=NO_SESSION)
    shared.output.done({"ended": found}, "session ended")
