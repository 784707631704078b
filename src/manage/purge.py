"""``purge``: deleting now what has expired."""

from ..accounts import feature as accounts
from ..core.purging import purge
from ..posts import feature as posts
from ..sealed import items
from .connection import Service, run
from .output import show_table

INDEXES = {**items.INDEXES, **accounts.INDEXES, **posts.INDEXES}


def purge_expired() -> None:
    """Delete now what has expired, of every collection, and write how much it was.

    The database does so by itself within a minute or two; nothing that has expired can be read meanwhile.
    """

    async def command(service: Service) -> list[tuple[str, int]]:
        return [deleted async for deleted in purge(service.mongo, INDEXES)]

    show_table(["collection", "deleted"], [[name, str(count)] for name, count in run(command)])
