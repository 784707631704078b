"""The secrets and messages that the user's account keeps."""

from collections.abc import Iterator
from typing import Annotated

import typer

from ..addresses import parse_id
from ..blocking_api import BlockingApi, connect
from ..durations import write_minute
from ..options import Command, Group, shared_of
from ..policy import Auth
from ..responses import JsonObject

NOTHING_TO_BURN = {
    "item_not_found": "nothing to burn: you keep no such item, or it was opened, burned or destroyed, or has expired."
    " See: sealpost secrets list"
}
LARGEST_PAGE = 100

app = typer.Typer(
    cls=Group, help="List and burn the secrets and messages that you created with --keep.", no_args_is_help=True
)


@app.command("list", cls=Command)
def list_secrets(context: typer.Context) -> None:
    """List your secrets and messages with their states, newest first. The server has no link to any of them."""
    shared = shared_of(context)
    with connect(shared) as server:
        if shared.json:
            shared.output.records(_items(server))
            return
        rows = [
            [
                item.text("kind"),
                item.text("state"),
                write_minute(item.moment("created_at")),
                write_minute(item.moment("expires_at")),
                write_minute(item.moment("opened_at")) if item.has("opened_at") else "-",
                item.text("id"),
            ]
            for item in _items(server)
        ]
    shared.output.table(("kind", "state", "created", "expires", "opened", "id"), rows)


@app.command("burn", cls=Command)
def burn(
    context: typer.Context,
    item_id: Annotated[str, typer.Argument(metavar="ID", help="Shown by `secrets list`.", show_default=False)],
) -> None:
    """Delete a secret or a message, so that it can no longer be opened."""
    shared, found = shared_of(context), parse_id(item_id)
    with connect(shared) as server:
        server.delete(f"/me/items/{found}", auth=Auth.REQUIRED, words=NOTHING_TO_BURN)
    shared.output.done({"burned": found}, "burned: it can no longer be opened")


def _items(server: BlockingApi) -> Iterator[JsonObject]:
    query = {"limit": str(LARGEST_PAGE)}
    while True:
        page = server.get("/me/items", auth=Auth.REQUIRED, query=query)
        yield from page.records("items")
        if not page.has("next"):
            return
        query["before"] = page.text("next")
