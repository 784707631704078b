"""``purge``: delete expired documents now."""

from ..core.database.purging import purge
from ..storage import INDEXES
from .connection import Service, run
from .output import show_table


def purge_expired() -> None:
    """Delete expired documents of every collection now, and print how many.

    MongoDB deletes them anyway within a minute or two, and they cannot be read until then.
    """

    async def command(service: Service) -> list[tuple[str, int]]:
        return [deleted async for deleted in purge(service.mongo, INDEXES)]

    show_table(["collection", "deleted"], [[name, str(count)] for name, count in run(command)])
