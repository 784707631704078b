"""Secrets, and the receipts of secrets and messages."""

from typing import Annotated

import typer

from ..addresses import parse_receipt_key
from ..durations import write_future, write_moment
from ..options import shared_of
from ..output import Output

ReceiptKey = Annotated[
    str, typer.Argument(metavar="RECEIPT_KEY", help="As shown when it was created.", show_default=False)
]


def show_receipt(context: typer.Context, receipt_key: ReceiptKey) -> None:
    """Tell what has become of a secret or a message."""
    from ..connection import connect  # noqa: PLC0415

    shared, key = shared_of(context), parse_receipt_key(receipt_key)
    with connect(shared) as server:
        receipt = server.get(f"/receipts/{key}")
    output = Output(as_json=shared.json, no_color=shared.no_color)
    if shared.json:
        output.records([receipt])
        return
    fields = {"state": receipt.text("state"), "created": write_moment(receipt.moment("created_at"))}
    fields["expires"] = write_future(receipt.moment("expires_at"))
    if receipt.optional("opened_at"):
        fields["opened"] = write_moment(receipt.moment("opened_at"))
    if receipt.optional("opens_left"):
        fields["openings left"] = str(receipt.number("opens_left"))
    if receipt.optional("failed_attempts"):
        fields["wrong phrases"] = str(receipt.number("failed_attempts"))
    output.fields("Receipt", fields)
