"""Messages, which anyone with the link can read."""

from typing import Annotated, Any

import typer

from ..addresses import Kind, ParsedLink, parse_link
from ..blocking_api import connect
from ..durations import parse_ttl
from ..envelopes import NotOpened, TextKeys, derive_keys, new_fragment_key, open_text, seal_text
from ..errors import ClientError, OutcomeUnknown, WrongUsage
from ..options import Command, DefaultGroup, KeyCommand, shared_of
from ..output import Output
from ..policy import Auth, Resend
from ..prompts import read_text
from ..responses import JsonObject
from .created import Keep, ServerSide, TimeToLive, show_created

NOT_THERE = {"key_not_found": "no such message: it has expired or was burned, or never existed"}

app = typer.Typer(
    cls=DefaultGroup,
    help="Send a message that anyone with the link can read, or read one. `message TEXT` means `message send TEXT`.",
)


@app.command("send", cls=Command)
def send(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The text. Default: stdin, or a prompt on a terminal.", show_default=False),
    ] = None,
    *,
    ttl: TimeToLive = None,
    server_side: ServerSide = False,
    keep: Keep = False,
) -> None:
    """Encrypt a message and show its link."""
    shared = shared_of(context)
    options: dict[str, Any] = {} if ttl is None else {"ttl": parse_ttl(ttl)}
    if keep:
        options["keep"] = True
    with connect(shared) as server:
        message, fragment_key = read_text(text, "Message"), None if server_side else new_fragment_key()
        if fragment_key:
            message = seal_text(message, derive_keys(fragment_key, None))
        body = {"message": message, **options}
        try:
            auth = Auth.REQUIRED if keep else Auth.ON_DEMAND
            answer = server.call("POST", "/", body, auth=auth, resend=Resend.UNAVAILABLE)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}; the link is lost, so send it again") from None
        show_created(shared.output, server.url, answer.checked(), Kind.MESSAGE, fragment_key=fragment_key)


@app.command("show", cls=KeyCommand)
def show(
    context: typer.Context,
    link: Annotated[str, typer.Argument(metavar="LINK", help="A link, or just its key.", show_default=False)],
) -> None:
    """Write the text of a message to stdout."""
    shared, parsed = shared_of(context), parse_link(link)
    if parsed.kind is Kind.SECRET:
        raise WrongUsage("this is a link to a secret: use `sealpost open`")
    with connect(shared, elsewhere=parsed.url) as server:
        message = server.get(f"/{Kind.MESSAGE}/{parsed.key}", words=NOT_THERE)
    show_text(shared.output, decrypted(message, "message", parsed), "message")


def decrypted(record: JsonObject, name: str, link: ParsedLink, keys: TextKeys | None = None) -> JsonObject:
    """Return a record with its text decrypted. Raises `ClientError` if the key does not fit."""
    if link.fragment_key is None:
        return record
    try:
        text = open_text(record.text(name), keys or derive_keys(link.fragment_key, None))
    except NotOpened:
        raise ClientError("decryption failed: the text on the server does not belong to this link") from None
    return JsonObject({**record, name: text})


def show_text(output: Output, record: JsonObject, name: str) -> None:
    """Write the text of a record to stdout, without anything else."""
    if output.as_json:
        record.text(name)
        output.records([record])
    else:
        output.exact(record.text(name))
