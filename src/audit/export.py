"""Events as lines of JSON, for the HTTP response and the export command. All of their characters are printable."""

import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import timedelta

from pydantic_core import to_json

from ..accounts.directory import UserDirectory
from ..api.routing import ID_PATTERN
from ..api.times import in_milliseconds
from ..core.clock import EPOCH
from .reader import AuditReader, Selection
from .records import Entry

CHUNK_EVENTS = 500
MOST_NAMES_KEPT = 10_000
_ID = re.compile(ID_PATTERN)


class AuditExport:
    """Reads events as lines of JSON."""

    def __init__(self, reader: AuditReader, directory: UserDirectory) -> None:
        self._reader = reader
        self._directory = directory

    async def find_users(self, text: str) -> frozenset[bytes]:
        """Return the ids of the users that a username or an id stands for. Raises `Unavailable`.

        A username may look like the id of another user. Then both are returned: nobody can hide events by a username.
        """
        found = await self._directory.id_of(text)
        ids = {bytes.fromhex(text)} if _ID.fullmatch(text) else set()
        return frozenset(ids | ({found} if found else set()))

    async def chunks(self, selection: Selection) -> AsyncGenerator[bytes, None]:
        """Yield the lines of events, oldest first, in non-empty chunks of whole lines. Raises `Unavailable`."""
        names: dict[bytes, str | None] = {}
        async for page in self._reader.pages(selection):
            for start in range(0, len(page), CHUNK_EVENTS):
                entries = page[start : start + CHUNK_EVENTS]
                await self._find_names(entries, names)
                yield b"".join(_line(entry, names) for entry in entries)

    async def _find_names(self, entries: Sequence[Entry], names: dict[bytes, str | None]) -> None:
        if len(names) > MOST_NAMES_KEPT:
            names.clear()
        unknown = set().union(*(entry.users for entry in entries)) - names.keys()
        if unknown:
            found = await self._directory.names(unknown)
            names.update({user_id: found.get(user_id) for user_id in unknown})


def _line(entry: Entry, names: Mapping[bytes, str | None]) -> bytes:
    line: dict[str, str | None] = {
        "at": in_milliseconds(EPOCH + timedelta(milliseconds=entry.at)),
        "kind": entry.kind,
    }
    if entry.user_id:
        line |= {"user_id": entry.user_id.hex(), "username": names[entry.user_id]}
    if entry.by:
        line |= {"by": entry.by.hex(), "by_username": names[entry.by]}
    if entry.item_id:
        line["item_id"] = entry.item_id.hex()
    if entry.method:
        line["method"] = entry.method
    if entry.network:
        line["address"] = entry.network
    return to_json(line) + b"\n"
