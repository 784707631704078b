"""Check values of the master keys in use, kept in the database: a process with another key ring must write nothing.

A process that seals under a key stores the key's check value first, an HMAC under a sub-key that serves no other
purpose. A ring that lacks one of the stored keys, or holds another key under its id, would find no name that is taken
and open nothing that is stored. Two processes that start at once with different rings each store their key before
they read, so at least one of them sees the other's.
"""

import hmac
from collections.abc import Awaitable, Callable, Collection, Sequence

import structlog
from pymongo.errors import DuplicateKeyError

from ..crypto.keys import KeyRing, Purpose
from .mongo import Document, Indexes, Mongo, Unfit, answering

COLLECTION = "key_checks"
INDEXES: Indexes = {COLLECTION: []}
MOST_KEYS = 1000
_MESSAGE = b"check"

log = structlog.get_logger(__name__)


class KeyChecks:
    """The check values in the database.

    ``keys_in_data`` returns the ids of keys that the stored data names and the ring lacks. It reads every collection,
    so it is asked only where no check value is stored yet: in an empty database, or in one from an older version.
    """

    def __init__(
        self, mongo: Mongo, ring: KeyRing, keys_in_data: Callable[[], Awaitable[Sequence[str]]] | None = None
    ) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._ring = ring
        self._keys_in_data = keys_in_data

    async def missing(self) -> list[str]:
        """Return the ids of the keys in use that the ring lacks or holds another key for. Raises `Unavailable`."""
        stored = await self._stored()
        if not stored and self._keys_in_data is not None:
            return sorted(await self._keys_in_data())
        return sorted(str(document["_id"]) for document in stored if not self._fits(document))

    async def require(self) -> None:
        """Store the check value of the key that seals. Raises `Unfit` where the ring lacks a key in use."""
        raise_for(await self.missing())
        with answering():
            try:
                await self._collection.insert_one(
                    {"_id": self._ring.newest, "check": check_value(self._ring, self._ring.newest)}
                )
            except DuplicateKeyError:
                return
        log.info("the check value of a key is stored", key_id=self._ring.newest)
        # Another process may have stored the key of another ring meanwhile.
        raise_for(await self.missing())

    async def retire_all_but(self, needed: Collection[str]) -> None:
        """Delete the check values of all keys but those with the given ids, and the one that seals.

        A ring without a retired key is accepted. Raises `Unavailable`.
        """
        with answering():
            await self._collection.delete_many({"_id": {"$nin": [*needed, self._ring.newest]}})

    async def _stored(self) -> list[Document]:
        with answering():
            documents: list[Document] = await self._collection.find().limit(MOST_KEYS).to_list(None)
        return documents

    def _fits(self, document: Document) -> bool:
        expected, stored = check_value(self._ring, str(document["_id"])), document.get("check")
        return expected is not None and isinstance(stored, bytes) and hmac.compare_digest(expected, stored)


def check_value(ring: KeyRing, key_id: str) -> bytes | None:
    """Return the check value of a key, 16 bytes; None where the ring does not hold the key."""
    return ring.mac_under(Purpose.KEY_CHECK, key_id, _MESSAGE)


def raise_for(missing: Sequence[str]) -> None:
    """Raise `Unfit`, which names the missing keys, unless there are none."""
    if missing:
        raise Unfit(
            f"The key ring lacks keys that the database is sealed with: {', '.join(missing)}. Put them back into the"
            " ring, from the copy of the key file, and restart every process."
        )
