"""Sharing texts and files as one-time secrets."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from ..addresses import Kind
from ..blocking_api import BlockingApi, connect
from ..durations import parse_ttl
from ..envelopes import TextKeys, derive_keys, new_fragment_key, seal_text
from ..errors import OutcomeUnknown, WrongUsage
from ..files.manifest import Manifest, write_manifest
from ..files.sharing import Sender, Stream, Uploaded
from ..files.sizes import write_files
from ..files.sources import LocalFile, find_files
from ..options import shared_of
from ..policy import Auth, Resend
from ..prompts import given_password, new_secret_password, read_text
from .created import Keep, ServerSide, TimeToLive, show_created
from .secrets import PasswordFile

STDIN = "-"
_TAKING_SECONDS = 50.0
"""Time that a server may need in addition, because MongoDB rewrites the content of files that a secret takes over."""


@dataclass(frozen=True)
class _Given:
    """What is to be shared; a ``text`` of None is read from stdin or prompted for if there are no files."""

    text: str | None
    files: Sequence[LocalFile]
    stream: str | None

    @property
    def has_files(self) -> bool:
        return bool(self.files or self.stream)


def share(
    context: typer.Context,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT|FILE",
            help="A text, or any number of files and folders. Default: the text on stdin, or a prompt on a terminal. An"
            " argument stays in the shell's history.",
            show_default=False,
        ),
    ] = None,
    *,
    text: Annotated[
        str | None,
        typer.Option(
            "--text", metavar="TEXT", help="A text, also if a file has that name; may accompany files; - for stdin."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Share stdin as a file with this name.")
    ] = None,
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
    keep: Keep = False,
) -> None:
    """Encrypt a text or files as a one-time secret and show its link."""
    shared = shared_of(context)
    body: dict[str, Any] = {
        "max_opens": opens,
        "max_attempts": attempts,
        "ttl": None if ttl is None else parse_ttl(ttl),
        "keep": keep or None,
    }
    phrase = given_password(password_file)
    given = _choose(arguments or [], text, name)
    fragment_key = None if server_side else new_fragment_key()
    with connect(shared) as server, Sender(server, sealed=not server_side, no_color=shared.no_color) as sender:
        files = _prepare(given, sender) if given.has_files else []
        secret = _read(given)
        if password and phrase is None:
            phrase = new_secret_password()
        keys = derive_keys(fragment_key, phrase) if fragment_key else None
        uploaded = sender.send(files) if files else []
        body |= {"phrase": keys.verifier if keys else phrase, **_contents(secret, uploaded, keys)}
        created = _create(server, {name: value for name, value in body.items() if value is not None})
        sender.forget()
        show_created(
            shared.output,
            server.url,
            created,
            Kind.SECRET,
            fragment_key=fragment_key,
            has_password=phrase is not None,
            files=write_files(len(files), sum(file.size for file in files)) if files else None,
        )


def _choose(arguments: Sequence[str], text: str | None, name: str | None) -> _Given:
    """Return what the arguments mean. Raises `WrongUsage`."""
    paths = [argument for argument in arguments if argument != STDIN]
    reads_stdin = len(paths) < len(arguments) or (name is not None and not arguments)
    if name is not None and (not reads_stdin or not name):
        raise WrongUsage("--name names stdin as a file: add - to the files")
    if reads_stdin and text == STDIN:
        raise WrongUsage("stdin cannot be both the text and a file")
    if name is None and reads_stdin and (paths or text is not None):
        raise WrongUsage("to share stdin as a file, name it with --name; as the text that accompanies files, --text -")
    if text is None and len(arguments) == 1 and paths and not os.path.exists(paths[0]):  # noqa: PTH110 (any text)
        return _Given(paths[0], [], None)
    return _Given(text, find_files(paths), name)


def _prepare(given: _Given, sender: Sender) -> list[LocalFile | Stream]:
    """Return the files, read from stdin if need be. Raises `ClientError` if the server will not accept them."""
    largest = sender.check(given.files, len(given.files) + (given.stream is not None))
    files: list[LocalFile | Stream] = list(given.files)
    if given.stream:
        if sys.stdin is None or sys.stdin.isatty():
            raise WrongUsage("--name needs a file or a pipe as stdin")
        files.append(sender.spool(given.stream, sys.stdin.buffer, largest))
    return files


def _read(given: _Given) -> str:
    if given.text is None and given.has_files:
        return ""
    return read_text(given.text, "Text to share", hidden=True)


def _contents(text: str, uploaded: Sequence[Uploaded], keys: TextKeys | None) -> dict[str, Any]:
    """Return the text and the files as fields of the request; encrypted if there are keys."""
    if not uploaded:
        return {"secret": seal_text(text, keys) if keys else text}
    if keys:
        manifest = Manifest(text, [sent.file for sent in uploaded])
        return {"secret": write_manifest(manifest, keys), "files": [{"upload": sent.upload} for sent in uploaded]}
    files = [{"upload": sent.upload, "name": sent.file.name, "type": sent.file.type} for sent in uploaded]
    return {"secret": text, "files": files}


def _create(server: BlockingApi, body: dict[str, Any]) -> Any:
    try:
        answer = server.call(
            "POST",
            "/generate",
            body,
            auth=Auth.REQUIRED if "keep" in body else Auth.ON_DEMAND,
            resend=Resend.UNAVAILABLE,
            extra_seconds=_TAKING_SECONDS if "files" in body else 0,
        )
    except OutcomeUnknown as error:
        raise OutcomeUnknown(f"{error}; the link is lost, so share it again") from None
    return answer.checked()
