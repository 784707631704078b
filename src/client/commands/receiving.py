"""Opening a secret with files. It is confirmed when everything is saved; an interrupted command can be repeated."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..addresses import ParsedLink
from ..blocking_api import BlockingApi
from ..durations import write_moment
from ..envelopes import FILES_PREFIX, NotOpened, TextKeys
from ..errors import ClientError, Interrupted, RequestRefused
from ..files.downloads import HoldEnded, RemoteFile
from ..files.manifest import Manifest, read_manifest
from ..files.memory import Memory
from ..files.receiving import Destination, Receiver, begin, list_files, recall
from ..files.sizes import write_size
from ..output import Output, say
from ..responses import JsonObject
from .opening import HELD_UNTIL, NOT_THERE, SecretReader, open_secret

HOLD_ENDED = {
    "key_not_found": "nothing there: the time to download its files is over, or the sender burned it. Ask the"
    " sender for a new secret"
}


def receive(
    output: Output,
    server: BlockingApi,
    link: ParsedLink,
    destination: Destination,
    password: str | None,
    *,
    found: JsonObject | None,
) -> None:
    """Open a secret, write its text, and save its files.

    ``found`` is the status of a secret that is not opened yet; None if an earlier command was interrupted.
    """
    with recall(server, link.key) as memory:
        if found:
            destination.check(found.number("files"), found.number("files_bytes"))
            begin(memory, phrase_required=found.flag("phrase_required"))
        reader = SecretReader(server, link.key, memory.read()["reader"])
        opened, keys = _open(reader, link, memory, password, is_new=found is not None)
        with _explaining_hold(opened, memory):
            text, files = _decrypt(opened, keys)
            _write_text(output, destination, text)
            receiver = Receiver(server, link.key, memory, destination, no_color=output.no_color)
            _report(output, opened, text, files, receiver.receive(files))
        reader.confirm(opened)
        memory.forget()
    left = opened.get("opens_left")
    if left and output.is_terminal:
        say(f"{left} {'view' if left == 1 else 'views'} left")


def _open(
    reader: SecretReader, link: ParsedLink, memory: Memory, password: str | None, *, is_new: bool
) -> tuple[JsonObject, TextKeys | None]:
    try:
        return open_secret(
            reader,
            link,
            password,
            has_password=memory.read()["phrase_required"],
            not_there=NOT_THERE if is_new else HOLD_ENDED,
        )
    except Interrupted:
        if is_new:
            memory.forget()
        raise
    except RequestRefused as error:
        # A wrong password must not end a hold.
        if is_new or error.code == "key_not_found":
            memory.forget()
        raise


@contextmanager
def _explaining_hold(opened: JsonObject, memory: Memory) -> Iterator[None]:
    """Say how to continue after a failure."""
    try:
        yield
    except HoldEnded:
        memory.forget()
        raise
    except (ClientError, KeyboardInterrupt):
        until = f" until {write_moment(opened.moment(HELD_UNTIL))}, or longer" if opened.has(HELD_UNTIL) else ""
        say(f"not everything was received. The server keeps it for you{until}: repeat the command to continue")
        raise


def _decrypt(opened: JsonObject, keys: TextKeys | None) -> tuple[str, list[RemoteFile]]:
    """Return the text and the files. Raises `ClientError`."""
    text = opened.text("secret")
    manifest: Manifest | None = None
    if keys:
        try:
            manifest = read_manifest(text, keys)
        except NotOpened:
            raise ClientError("decryption failed: the text on the server does not belong to this link") from None
        text = manifest.text
    elif text.startswith(FILES_PREFIX):
        raise ClientError("the sender encrypted this secret: give the complete link, not only a part of it")
    return text, list_files(opened, manifest)


def _write_text(output: Output, destination: Destination, text: str) -> None:
    if not text or output.as_json:
        return
    if destination.is_stdout:
        say(f"the secret also has a text: {text}")
    else:
        output.exact(text)


def _report(output: Output, opened: JsonObject, text: str, files: Sequence[RemoteFile], paths: Sequence[Path]) -> None:
    if not paths:
        return
    saved = list(zip(files, paths, strict=True))
    if output.as_json:
        # The hold ends now.
        shown = {name: value for name, value in opened.items() if name != HELD_UNTIL}
        listed = [{"name": file.name, "size": file.size, "path": str(path)} for file, path in saved]
        output.records([{**shown, "secret": text, "files": listed}])
    else:
        for file, path in saved:
            say(f"saved {path} ({write_size(file.size)})")
