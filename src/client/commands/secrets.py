"""Secrets: sharing one, and opening what a link leads to."""

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
from ..prompts import ask_phrase, given_phrase, new_phrase, read_text
from ..responses import JsonObject, Response
from .created import ServerSide, TimeToLive, show_created
from .messages import decrypted, show_text

NOTHING_WAITS = {
    "key_not_found": "nothing waits there: it was opened or burned, it has expired, or there never was one"
}

PhraseFile = Annotated[
    Path | None, typer.Option("--phrase-file", metavar="FILE", help="File with the phrase.", show_default=False)
]


def share(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="TEXT",
            help="The text; stdin or a prompt without it. What stands here, the shell's history keeps.",
            show_default=False,
        ),
    ] = None,
    *,
    ttl: TimeToLive = None,
    phrase: Annotated[bool, typer.Option("--phrase", help="Ask for a phrase that the reader must know.")] = False,
    phrase_file: PhraseFile = None,
    opens: Annotated[
        int | None, typer.Option("--opens", metavar="N", min=1, max=100, help="How often it may be opened: once.")
    ] = None,
    attempts: Annotated[
        int | None, typer.Option("--attempts", metavar="N", min=1, max=100, help="Wrong phrases that destroy it: five.")
    ] = None,
    server_side: ServerSide = False,
) -> None:
    """Encrypt a text and share it as a secret that opens once, and show its link."""
    shared = shared_of(context)
    body: dict[str, Any] = {
        "max_opens": opens,
        "max_attempts": attempts,
        "ttl": None if ttl is None else parse_ttl(ttl),
    }
    body["phrase"] = given_phrase(phrase_file)
    with connect(shared) as server:
        body["secret"] = read_text(text, "Text to share", hidden=True)
        if phrase and body["phrase"] is None:
            body["phrase"] = new_phrase()
        fragment_key = None if server_side else new_fragment_key()
        if fragment_key:
            keys = derive_keys(fragment_key, body["phrase"])
            body["secret"], body["phrase"] = seal_text(body["secret"], keys), keys.verifier
        sent = {name: value for name, value in body.items() if value is not None}
        try:
            answer = server.call("POST", "/generate", sent, auth=Auth.WHERE_ASKED, resend=Resend.UNAVAILABLE)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(f"{error}; nobody has the link, so share it again") from None
        show_created(
            shared.output,
            server.url,
            answer.checked(),
            Kind.SECRET,
            fragment_key=fragment_key,
            has_phrase="phrase" in sent,
        )


def open_link(
    context: typer.Context,
    link: Annotated[str, typer.Argument(metavar="LINK", help="A link, or the key alone.", show_default=False)],
    *,
    phrase_file: PhraseFile = None,
) -> None:
    """Open a secret, or read a message, and write its text to stdout.

    The phrase is asked for where there is one; a wrong one is asked for again.
    """
    shared, parsed = shared_of(context), parse_link(link)
    phrase = given_phrase(phrase_file)
    with connect(shared, elsewhere=parsed.url) as server:
        kind, found = _look(server, parsed)
        if kind is Kind.MESSAGE:
            show_text(shared.output, decrypted(found, "message", parsed), "message")
            return
        shared.output.check()
        if found.flag("phrase_required"):
            opened = _open(server, parsed, phrase)
        else:
            opened = decrypted(_try(server, parsed.key).checked(NOTHING_WAITS), "secret", parsed)
        _show(shared.output, opened)


def _look(server: BlockingApi, link: ParsedLink) -> tuple[Kind, JsonObject]:
    """Return what a link leads to, without opening it. A key alone does not tell of which kind it is."""
    kinds = [link.kind] if link.kind else [Kind.SECRET, Kind.MESSAGE]
    for kind in kinds:
        answer = server.call("GET", f"/{kind}/{link.key}", resend=Resend.ALWAYS)
        if answer.code != "key_not_found":
            break
    return kind, answer.checked(NOTHING_WAITS)


def _open(server: BlockingApi, link: ParsedLink, given: str | None) -> JsonObject:
    while True:
        phrase = given or ask_phrase()
        keys = derive_keys(link.fragment_key, phrase) if link.fragment_key else None
        answer = _try(server, link.key, keys.verifier if keys else phrase)
        if answer.code == "phrase_required" and given is None:
            continue
        if answer.code != "incorrect_phrase":
            return decrypted(answer.checked(NOTHING_WAITS), "secret", link, keys)
        left = answer.body.number("attempts_left")
        if left == 0:
            raise RequestRefused(
                "wrong phrase. It was the last attempt: the secret is destroyed", status=403, code=answer.code
            )
        words = f"wrong phrase; {left} {'attempt' if left == 1 else 'attempts'} left"
        if given is not None:
            raise RequestRefused(words, status=answer.status, code=answer.code)
        say(words)


def _try(server: BlockingApi, key: str, phrase: str | None = None) -> Response:
    body = None if phrase is None else {"phrase": phrase}
    try:
        return server.call("POST", f"/secrets/{key}", body, resend=Resend.UNAVAILABLE)
    except OutcomeUnknown as error:
        raise OutcomeUnknown(
            f"{error}. Try to open it again; where nothing waits any more, its text is lost, so ask its sender for"
            " another one"
        ) from None


def _show(output: Output, opened: JsonObject) -> None:
    left = opened.get("opens_left")
    try:
        show_text(output, opened, "secret")
    except ClientError as error:
        if left:
            raise
        said = str(error) or "nobody reads stdout any more"
        raise ClientError(
            f"{said}. The secret was opened and its text is lost: ask its sender for another one"
        ) from None
    if left and output.is_terminal:
        say(f"it may be opened {left} more {'time' if left == 1 else 'times'}")
