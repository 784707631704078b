"""Secrets: sharing them and opening links."""

from pathlib import Path
from typing import Annotated, Any

import typer

from ..addresses import Kind, ParsedLink, parse_link
from ..blocking_api import BlockingApi, connect
from ..durations import parse_ttl
from ..envelopes import derive_keys, new_fragment_key, seal_text
from ..errors import ClientError, OutcomeUnknown, RequestRefused
from ..options import shared_of
from ..output import Output, say
from ..policy import Auth, Resend
from ..prompts import ask_secret_password, given_password, new_secret_password, read_text
from ..responses import JsonObject
from .created import ServerSide, TimeToLive, show_created
from .messages import decrypted, show_text
from .opening import HELD_UNTIL, SecretReader

NOT_THERE = {"key_not_found": "nothing there: it was opened or burned, has expired, or never existed"}

PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", "--phrase-file", metavar="FILE", help="File that contains the password.", show_default=False
    ),
]


def share(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="The text. Default: stdin, or a prompt on a terminal. An argument stays in the shell's history.",
            show_default=False,
        ),
    ] = None,
    *,
    ttl: TimeToLive = None,
    password: Annotated[
        bool, typer.Option("--password", "--phrase", help="Prompt for a password that readers must enter.")
    ] = False,
    password_file: PasswordFile = None,
    opens: Annotated[
        int | None, typer.Option("--opens", metavar="N", min=1, max=100, help="Number of views; 1 by default.")
    ] = None,
    attempts: Annotated[
        int | None,
        typer.Option(
            "--attempts", metavar="N", min=1, max=100, help="Wrong passwords until it is destroyed; 5 by default."
        ),
    ] = None,
    server_side: ServerSide = False,
) -> None:
    """Encrypt a text as a one-time secret and show its link."""
    shared = shared_of(context)
    body: dict[str, Any] = {
        "max_opens": opens,
        "max_attempts": attempts,
        "ttl": None if ttl is None else parse_ttl(ttl),
    }
    body["phrase"] = given_password(password_file)
    with connect(shared) as server:
        body["secret"] = read_text(text, "Text to share", hidden=True)
        if password and body["phrase"] is None:
            body["phrase"] = new_secret_password()
        fragment_key = None if server_side else new_fragment_key()
        if fragment_key:
            keys = derive_keys(fragment_key, body["phrase"])
            body["secret"], body["phrase"] = seal_text(body["secret"], keys), keys.verifier
        sent = {name: value for name, value in body.items() if value is not None}
        try:
            answer = server.call("POST", "/generate", sent, auth=Auth.ON_DEMAND, resend=Resend.UNAVAILABLE)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}; the link is lost, so share it again") from None
        show_created(
            shared.output,
            server.url,
            answer.checked(),
            Kind.SECRET,
            fragment_key=fragment_key,
            has_password="phrase" in sent,
        )


def open_link(
    context: typer.Context,
    link: Annotated[str, typer.Argument(metavar="LINK", help="A link, or just its key.", show_default=False)],
    *,
    password_file: PasswordFile = None,
) -> None:
    """Open a secret or read a message, and write its text to stdout.

    If the secret has a password, you are prompted for it, again after a wrong one.
    """
    shared, parsed = shared_of(context), parse_link(link)
    password = given_password(password_file)
    with connect(shared, elsewhere=parsed.url) as server:
        kind, found = _look(server, parsed)
        if kind is Kind.MESSAGE:
            show_text(shared.output, decrypted(found, "message", parsed), "message")
            return
        shared.output.check()
        reader = SecretReader(server, parsed.key)
        if found.flag("phrase_required"):
            opened = _open(reader, parsed, password)
        else:
            opened = decrypted(reader.open().checked(NOT_THERE), "secret", parsed)
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


def _open(reader: SecretReader, link: ParsedLink, given: str | None) -> JsonObject:
    while True:
        password = given or ask_secret_password()
        keys = derive_keys(link.fragment_key, password) if link.fragment_key else None
        answer = reader.open(keys.verifier if keys else password)
        if answer.code == "phrase_required" and given is None:
            continue
        if answer.code != "incorrect_phrase":
            return decrypted(answer.checked(NOT_THERE), "secret", link, keys)
        left = answer.body.number("attempts_left")
        if left == 0:
            raise RequestRefused(
                "wrong password. That was the last attempt: the secret is destroyed", status=403, code=answer.code
            )
        words = f"wrong password; {left} {'attempt' if left == 1 else 'attempts'} left"
        if given is not None:
            raise RequestRefused(words, status=answer.status, code=answer.code)
        say(words)


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
