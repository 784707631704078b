"""``purge``: deleting now what has expired."""

from ..core.database.purging import purge
from ..storage import INDEXES
from .connection import Service, run
from .output import show_table


def purge_expired() -> None:
    """Delete now what has expired, of every collection, and write how much it was.

    The database does so by itself within a minute or two; nothing that has expired can be read meanwhile.
    """

    async def command(service: Service) -> list[tuple[str, int]]:
        return [deleted async for deleted in purge(service.mongo, INDEXES)]

    show_table(["collection", "deleted"], [[name, str(count)] for name, count in run(command)])
