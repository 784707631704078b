"""A bundle: the deliveries that a worker stores in one document, encrypted, with indexed fields in the clear."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import structlog
from pydantic import BaseModel

from ..core.crypto.blind_index import BlindIndex
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.mongo import Document
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter

COLLECTION = "gathered"
KIND = "bundle"
POSITION_BYTES = 8
HIGHEST = 2 ** (8 * POSITION_BYTES) - 1
"""The highest possible position."""

log = structlog.get_logger(__name__)


class Delivery(BaseModel):
    """The messages of one request; ``sequence`` is the sender's number of the first one."""

    model_config = Content.model_config

    user_id: bytes
    sequence: int
    batch: str | None
    messages: tuple[str, ...]

    __repr__ = __str__ = Content.__repr__

    @property
    def last(self) -> int:
        """The sender's number of the last message."""
        return self.sequence + len(self.messages) - 1


class BundleContent(Content):
    """The encrypted part of a bundle."""

    received_at: datetime
    deliveries: tuple[Delivery, ...]


class BundleSealer:
    """Encrypts and decrypts bundles with the keys of a ring; ``damaged`` counts failures to decrypt."""

    def __init__(self, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._sealer = RecordSealer(ring, KIND)
        self._batches = BlindIndex(ring, "batch")
        self._damaged = damaged

    def index(self, user_id: bytes, batch: str | None) -> list[bytes]:
        """Return the blind index of a sender's batch id under each key of the ring; an empty list without one."""
        return [] if batch is None else list(self._batches.of(f"{user_id.hex()} {batch}"))

    def index_all(self, deliveries: Iterable[Delivery]) -> Document:
        """Return the field with the indexes of all batch ids, if there are any."""
        indexes = [index for one in deliveries for index in self.index(one.user_id, one.batch)]
        return {"batch_index": indexes} if indexes else {}

    def seal(self, content: BundleContent, document_id: bytes) -> Document:
        """Return every field of a document that depends on its content.

        In the clear: each sender's count of messages and last number, the total count, and the indexes of batch
        ids.
        """
        senders: dict[bytes, Document] = {}
        for one in content.deliveries:
            count = senders[one.user_id]["count"] if one.user_id in senders else 0
            senders[one.user_id] = {"user_id": one.user_id, "count": count + len(one.messages), "last": one.last}
        return {
            "senders": list(senders.values()),
            "count": sum(sender["count"] for sender in senders.values()),
            **self.index_all(content.deliveries),
            **self._sealer.seal(content, document_id),
        }

    def open(self, document: Document) -> BundleContent | None:
        """Return the content of a bundle; log an error and return None if it cannot be decrypted."""
        try:
            return self._sealer.open(BundleContent, document)
        except Unsealable:
            identifier: Any = document["_id"]
            self._damaged.inc()
            log.error(
                "gathered messages cannot be decrypted: modified in the database, or their key is not in the key ring",
                id=identifier.hex() if isinstance(identifier, bytes) else None,
            )
            return None


# Sealing indexes in the same step, so every bundle under the newest key is found by it.
RESEALABLE = Resealable(
    COLLECTION,
    KIND,
    BundleContent,
    lambda ring, content: BundleSealer(ring).index_all(content.deliveries),
    is_indexed_as_sealed=True,
)


def document_id(position: int) -> bytes:
    """Return the id of the bundle at a position. Ids sort like positions."""
    return position.to_bytes(POSITION_BYTES, "big")


def position_of(document: Document) -> int:
    """Return the position of a bundle."""
    return int.from_bytes(document["_id"], "big")
