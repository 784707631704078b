"""Messages: for everybody who has the link."""

from typing import Annotated

import typer

from ..addresses import Kind, parse_link
from ..answers import Record
from ..connection import connect
from ..durations import parse_ttl
from ..errors import OutcomeUnknown, WrongUsage
from ..options import Command, DefaultGroup, KeyCommand, shared_of
from ..output import Output
from ..policy import Auth, Resend
from ..texts import read_text
from .created import TimeToLive, show_created

NOT_THERE = {"key_not_found": "there is no such message: it has expired or was burned, or there never was one"}

app = typer.Typer(
    cls=DefaultGroup,
    help="Seal a message for everybody who has the link, or show one. `message TEXT` is short for `message send TEXT`.",
)


@app.command("send", cls=Command)
def send(
    context: typer.Context,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The text; stdin or a prompt without it.", show_default=False)
    ] = None,
    *,
    ttl: TimeToLive = None,
) -> None:
    """Seal a message, and show its link."""
    shared = shared_of(context)
    lifetime = {} if ttl is None else {"ttl": parse_ttl(ttl)}
    with connect(shared) as server:
        body = {"message": read_text(text, "Message"), **lifetime}
        try:
            answer = server.call("POST", "/", body, auth=Auth.WHERE_ASKED, resend=Resend.UNAVAILABLE)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}; nobody has the link, so send it again") from None
        show_created(shared.output, server.url, answer.checked(), "Message")


@app.command("show", cls=KeyCommand)
def show(
    context: typer.Context,
    link: Annotated[str, typer.Argument(metavar="LINK", help="A link, or the key alone.", show_default=False)],
) -> None:
    """Read a message, and write its text to stdout."""
    shared, parsed = shared_of(context), parse_link(link)
    if parsed.kind is Kind.SECRET:
        raise WrongUsage("this is the link of a secret: sealpost open")
    with connect(shared, elsewhere=parsed.url) as server:
        message = server.get(f"/{Kind.MESSAGE}/{parsed.key}", words=NOT_THERE)
    show_text(shared.output, message, "message")


def show_text(output: Output, record: Record, name: str) -> None:
    """Write the text of a record to stdout and nothing else."""
    if output.as_json:
        record.text(name)
        output.records([record])
    else:
        output.exact(record.text(name))
