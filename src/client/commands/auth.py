"""How commands authenticate themselves, and what the server offers."""

from dataclasses import dataclass
from datetime import datetime

import typer

from ..blocking_api import BlockingApi, connect
from ..durations import write_moment
from ..environment import TOKEN, read_variable
from ..errors import ExitCode, NotSignedIn
from ..options import Command, Group, shared_of
from ..policy import Auth, Resend
from ..responses import JsonObject

SESSION, API_TOKEN, VARIABLE = "session", "token", "variable"
WORDS = {SESSION: "a session", API_TOKEN: "an API token", VARIABLE: f"the token in {TOKEN}", None: "not signed in"}

app = typer.Typer(cls=Group, help="Show how commands authenticate themselves.", no_args_is_help=True)


@dataclass(frozen=True)
class Status:
    """How commands are authenticated. Users and expiries of API tokens are unknown."""

    method: str | None
    username: str | None = None
    until: datetime | None = None
    problem: str | None = None


@app.command("status", cls=Command)
def status(context: typer.Context) -> None:
    """Show the server, who is signed in, how and until when, and what the server offers."""
    shared = shared_of(context)
    with connect(shared) as server:
        service = server.get("/service")
        found = _status(server)
    if shared.json:
        until = found.until.isoformat() if found.until else None
        record = {"url": server.url, "method": found.method, "username": found.username, "expires_at": until}
        shared.output.records([{**record, "problem": found.problem, "service": service}])
    else:
        shared.output.fields("Sign-in", _fields(server.url, found, service))
    if found.method is None or found.problem:
        raise typer.Exit(ExitCode.NOT_SIGNED_IN)


def _status(server: BlockingApi) -> Status:
    stored = server.session.stored()
    method = VARIABLE if read_variable(TOKEN) else None
    if method is None and stored:
        method = API_TOKEN if stored.is_api_token else SESSION
    if method is None:
        return Status(None)
    try:
        answer = server.call("GET", "/me", auth=Auth.REQUIRED, resend=Resend.ALWAYS)
        if answer.code == "insufficient_scope":
            return Status(method)
        username = answer.checked().text("username")
        sessions = server.get("/sessions", auth=Auth.REQUIRED).records("sessions")
    except NotSignedIn as error:
        return Status(method, problem=str(error))
    until = next((session.moment("expires_at") for session in sessions if session.flag("current")), None)
    return Status(method, username, until)


def _fields(url: str, found: Status, service: JsonObject) -> dict[str, str]:
    fields = {"server": url, "service": f"{service.text('name')}, Sealpost {service.text('version')}"}
    if found.username:
        fields["username"] = found.username
    fields["signed in by"] = WORDS[found.method]
    if found.until:
        fields["until"] = f"{write_moment(found.until)}, unless it is used"
    if found.problem:
        fields["problem"] = found.problem
    fields["features"] = ", ".join(["secrets", *service.texts("features")])
    fields["sign in with"] = ", ".join(service.texts("sign_in")) or "-"
    fields["registration"] = service.text("registration")
    return fields
