"""Echo: a test of connection and credentials."""

from typing import Annotated

import typer

from ..blocking_api import connect
from ..options import shared_of
from ..policy import Auth, Resend
from ..prompts import read_text
from .messages import show_text


def echo(
    context: typer.Context,
    text: Annotated[
        str | None,
        typer.Argument(metavar="TEXT", help="The text. Default: stdin, or a prompt on a terminal.", show_default=False),
    ] = None,
) -> None:
    """Send a text and print the server's echo, to test the connection and the sign-in."""
    shared = shared_of(context)
    with connect(shared) as server:
        body = {"str": read_text(text, "Text")}
        answer = server.call("POST", "/echo", body, auth=Auth.REQUIRED, resend=Resend.ALWAYS).checked()
    show_text(shared.output, answer, "str")
