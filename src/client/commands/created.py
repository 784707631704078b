"""Options, output and receipts that secrets and messages share."""

from typing import Annotated

import typer

from ..addresses import Kind, parse_receipt_key, write_link
from ..blocking_api import connect
from ..durations import write_future, write_moment
from ..files.sizes import write_files
from ..options import shared_of
from ..output import Output, say_on_terminal
from ..responses import JsonObject

NO_RECEIPT = {"key_not_found": "no such receipt on this server: it never existed, or expired a week ago or more"}
NOTHING_TO_BURN = {
    "key_not_found": "nothing left to burn: it was opened, burned or destroyed, or has expired. See: sealpost receipt"
}

TimeToLive = Annotated[
    str | None,
    typer.Option(
        "--ttl", metavar="TIME", help="Lifetime, such as 45s, 90m, 2h or 1d12h. The server has a default and a limit."
    ),
]
ServerSide = Annotated[
    bool,
    typer.Option("--server-side", help="Let the server encrypt, for readers who use curl or have no JavaScript."),
]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the receipt with your account, for `sealpost secrets list`.")]
ReceiptKey = Annotated[
    str, typer.Argument(metavar="RECEIPT_KEY", help="Shown together with the link.", show_default=False)
]


def show_created(
    output: Output,
    url: str,
    created: JsonObject,
    kind: Kind,
    *,
    fragment_key: bytes | None,
    has_password: bool = False,
    files: str | None = None,
) -> None:
    """Show a link: alone in a pipe, with the receipt key and expiry on a terminal."""
    link = write_link(url, created.text("url"), kind, fragment_key)
    receipt_key = created.text("receipt_key")
    if output.as_json:
        output.records([{**created, "url": link}])
    elif output.is_terminal:
        fields = {"link": link, "receipt": receipt_key, "expires": write_future(created.moment("expires_at"))}
        if files:
            fields |= {"files": files}
        if has_password:
            fields |= {"password": "required; send it separately from the link"}
        output.fields("Secret" if kind is Kind.SECRET else "Message", fields)
    else:
        output.line(link)
        say_on_terminal(f"the receipt key is {receipt_key}")


def show_receipt(context: typer.Context, receipt_key: ReceiptKey) -> None:
    """Show the status of a secret or a message."""
    shared, key = shared_of(context), parse_receipt_key(receipt_key)
    with connect(shared) as server:
        receipt = server.get(f"/receipts/{key}", words=NO_RECEIPT)
    if shared.json:
        shared.output.records([receipt])
        return
    fields = {"state": receipt.text("state"), "created": write_moment(receipt.moment("created_at"))}
    fields["expires"] = write_future(receipt.moment("expires_at"))
    if receipt.get("files"):
        fields["files"] = write_files(receipt.number("files"), receipt.number("files_bytes"))
    if receipt.has("opened_at"):
        fields["opened"] = write_moment(receipt.moment("opened_at"))
    if receipt.has("received_at"):
        fields["received"] = write_moment(receipt.moment("received_at"))
    if receipt.has("opens_left"):
        fields["views left"] = str(receipt.number("opens_left"))
    if receipt.has("failed_attempts"):
        fields["wrong passwords"] = str(receipt.number("failed_attempts"))
    if receipt.get("late_attempts"):
        last = f", the last one {write_moment(receipt.moment('last_late_at'))}" if receipt.has("last_late_at") else ""
        fields["late attempts"] = f"{receipt.number('late_attempts')}{last}"
    shared.output.fields("Receipt", fields)


def burn(context: typer.Context, receipt_key: ReceiptKey) -> None:
    """Delete a secret or a message, so that it can no longer be opened."""
    shared, key = shared_of(context), parse_receipt_key(receipt_key)
    with connect(shared) as server:
        server.delete(f"/receipts/{key}", words=NOTHING_TO_BURN)
    shared.output.done({"burned": True}, "burned: it can no longer be opened")
