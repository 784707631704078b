"""The echo, to try out the whole way there and back."""

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
        str | None, typer.Argument(metavar="TEXT", help="The text; stdin or a prompt without it.", show_default=False)
    ] = None,
) -> None:
    """Have the server say a text back, to try out the way there and the sign-in."""
    shared = shared_of(context)
    with connect(shared) as server:
        body = {"str": read_text(text, "Text")}
        answer = server.call("POST", "/echo", body, auth=Auth.NEEDED, resend=Resend.ALWAYS).checked()
    show_text(shared.output, answer, "str")
