"""Audit records: the events of a short time in one document, encrypted.

A worker stores the events of about half a second together. Encrypting and inserting each event by itself would cost a
busy service a tenth of its throughput. The id of a record begins with the time of its first event, so ids sort by time
and no other index is needed for that. The envelope is bound to the id, which protects the time as well.
"""

import itertools
import secrets
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import structlog
from pymongo import IndexModel

from ..core.clock import EPOCH
from ..core.crypto.blind_index import BlindIndex
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.mongo import Document, Indexes
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter

COLLECTION = "audit"
KIND = "audit"
INDEXES: Indexes = {
    COLLECTION: [
        # TTL index for cleanup.
        IndexModel("delete_at", name="delete_at", expireAfterSeconds=0),
        IndexModel([("user_index", 1), ("_id", 1)], name="user_index"),
    ]
}
MOST_EVENTS = 256
"""Events in a record."""
SPAN = timedelta(seconds=1)
"""Maximum time between the first and the last event of a record."""
TIME_BYTES, SEQUENCE_BYTES, RANDOM_BYTES = 8, 2, 6

log = structlog.get_logger(__name__)


class Entry(NamedTuple):
    """An event; ``at`` is in milliseconds since 1970. Stored as an array, which is half as long as an object."""

    at: int
    kind: str
    user_id: bytes | None = None
    by: bytes | None = None
    item_id: bytes | None = None
    method: str | None = None
    network: str | None = None

    @property
    def users(self) -> set[bytes]:
        """The ids of the user concerned and of the operator who acted."""
        return {user_id for user_id in (self.user_id, self.by) if user_id}


class AuditContent(Content):
    """The encrypted part of a record."""

    entries: tuple[Entry, ...]


class AuditSealer:
    """Encrypts and decrypts records with the keys of a ring; ``damaged`` counts failures to decrypt."""

    def __init__(self, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._sealer = RecordSealer(ring, KIND)
        self._users = BlindIndex(ring, "audit user")
        self._sequence = itertools.count()
        self._damaged = damaged

    def index(self, user_id: bytes) -> Sequence[bytes]:
        """Return the blind index of a user under each key of the ring."""
        return self._users.of(user_id.hex())

    def index_all(self, entries: Iterable[Entry]) -> Document:
        """Return the field with the indexes of all users in the entries, if there are any."""
        users = sorted(set().union(*(entry.users for entry in entries)))
        return {"user_index": [index for user_id in users for index in self.index(user_id)]} if users else {}

    def seal(self, entries: Sequence[Entry], life: timedelta) -> Document:
        """Return the document of entries, of which the first is the earliest.

        Ids of records that begin at the same time sort in the order in which they were sealed.
        """
        begins = entries[0].at
        sequence = (next(self._sequence) % 256**SEQUENCE_BYTES).to_bytes(SEQUENCE_BYTES, "big")
        document_id = first_id(begins)[:TIME_BYTES] + sequence + secrets.token_bytes(RANDOM_BYTES)
        return {
            "_id": document_id,
            "delete_at": EPOCH + timedelta(milliseconds=begins) + life,
            **self.index_all(entries),
            **self._sealer.seal(AuditContent.model_construct(entries=tuple(entries)), document_id),
        }

    def open(self, document: Document) -> tuple[Entry, ...]:
        """Return the entries of a record; log an error and return none if it cannot be decrypted."""
        try:
            return self._sealer.open(AuditContent, document).entries
        except Unsealable:
            identifier: Any = document["_id"]
            self._damaged.inc()
            log.error(
                "audit record cannot be decrypted: modified in the database, or its key is not in the key ring",
                id=identifier.hex() if isinstance(identifier, bytes) else None,
            )
            return ()


# Sealing indexes in the same step, so every record under the newest key is found by it.
RESEALABLE = Resealable(
    COLLECTION,
    KIND,
    AuditContent,
    lambda ring, content: AuditSealer(ring).index_all(content.entries),
    is_indexed_as_sealed=True,
)


def first_id(at: int) -> bytes:
    """Return the first id of records that begin at a time, in milliseconds since 1970."""
    return max(at, 0).to_bytes(TIME_BYTES, "big") + bytes(SEQUENCE_BYTES + RANDOM_BYTES)


def begin_of(document: Document) -> int:
    """Return the time at which a record begins, in milliseconds since 1970."""
    return int.from_bytes(document["_id"][:TIME_BYTES], "big")
