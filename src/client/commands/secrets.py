"""Opening links."""

from pathlib import Path
from typing import Annotated

import typer

from ..addresses import Kind, ParsedLink, parse_link
from ..blocking_api import BlockingApi, connect
from ..errors import ClientError
from ..files.receiving import Destination, is_interrupted
from ..options import shared_of
from ..output import Output, say
from ..policy import Resend
from ..prompts import given_password
from ..responses import JsonObject
from .messages import decrypted, show_text
from .opening import HELD_UNTIL, NOT_THERE, SecretReader, open_secret
from .receiving import receive

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", "--phrase-file", metavar="FILE", help="File that contains the password.", show_default=False
    ),
]


def open_link(
    context: typer.Context,
    link: Annotated[str, typer.Argument(metavar="LINK", help="A link, or just its key.", show_default=False)],
    *,
    directory: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Directory for files; - writes a single file to stdout. Default: here.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace existing files.")] = False,
    password_file: PasswordFile = None,
) -> None:
    """Open a secret or read a message. Write its text to stdout, and save its files.

    If the secret has a password, you are prompted for it, again after a wrong one.
    """
    shared, parsed = shared_of(context), parse_link(link)
    password = given_password(password_file)
    destination = Destination(directory, force=force, output=shared.output)
    with connect(shared, elsewhere=parsed.url) as server:
        if is_interrupted(server, parsed.key):
            receive(shared.output, server, parsed, destination, password, found=None)
            return
        kind, found = _look(server, parsed)
        if kind is Kind.MESSAGE:
            show_text(shared.output, decrypted(found, "message", parsed), "message")
            return
        shared.output.check()
        if found.get("files"):
            receive(shared.output, server, parsed, destination, password, found=found)
            return
        reader = SecretReader(server, parsed.key)
        answered, keys = open_secret(reader, parsed, password, has_password=found.flag("phrase_required"))
        opened = decrypted(answered, "secret", parsed, keys)
        _show(shared.output, opened)
        reader.confirm(opened)


def _look(server: BlockingApi, link: ParsedLink) -> tuple[Kind, JsonObject]:
    """Return the kind and status of an item without opening it. A bare key may be of either kind."""
    kinds = [link.kind] if link.kind else [Kind.SECRET, Kind.MESSAGE]
    for kind in kinds:
        answer = server.call("GET", f"/{kind}/{link.key}", resend=Resend.ALWAYS)
        if answer.code != "key_not_found":
            break
    return kind, answer.checked(NOT_THERE)


def _show(output: Output, opened: JsonObject) -> None:
    left = opened.get("opens_left")
    # The hold ends now.
    shown = JsonObject({name: value for name, value in opened.items() if name != HELD_UNTIL})
    try:
        show_text(output, shown, "secret")
    except ClientError as error:
        if left:
            raise
        said = str(error) or "the reader of stdout closed the pipe"
        raise ClientError(f"{said}. The secret was opened and its text is lost: ask the sender for a new one") from None
    if left and output.is_terminal:
        say(f"{left} {'view' if left == 1 else 'views'} left")
