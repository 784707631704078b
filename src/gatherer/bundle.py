"""What is in a bundle, and how it is sealed and indexed."""

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
"""The last position that there can be."""

log = structlog.get_logger(__name__)


class Delivery(BaseModel):
    """What one request delivered; ``sequence`` is the sender's number of the first message."""

    model_config = Content.model_config

    user_id: bytes
    sequence: int
    batch: str | None
    messages: tuple[str, ...]

    __repr__ = __str__ = Content.__repr__


class BundleContent(Content):
    """What is sealed of a bundle."""

    received_at: datetime
    deliveries: tuple[Delivery, ...]


class BatchNames:
    """How ids of batches are indexed: each sender's own ones."""

    def __init__(self, ring: KeyRing) -> None:
        self._index = BlindIndex(ring, "batch")

    def index(self, user_id: bytes, batch: str | None) -> list[bytes]:
        """Return the blind index of a sender's batch under each key of the ring; nothing for none."""
        return [] if batch is None else list(self._index.of(f"{user_id.hex()} {batch}"))

    def fields(self, deliveries: Iterable[Delivery]) -> Document:
        """Return the field of a bundle by which its batches are found."""
        found = [index for one in deliveries for index in self.index(one.user_id, one.batch)]
        return {"batch_index": found} if found else {}


# What is sealed is indexed in the same step, so what is under the newest key is found by it.
RESEALABLE = Resealable(
    COLLECTION,
    KIND,
    BundleContent,
    lambda ring, content: BatchNames(ring).fields(content.deliveries),
    is_indexed_as_sealed=True,
)


class BundleSealer:
    """Seals and opens bundles with the keys of one ring; ``damaged`` counts those that do not open."""

    def __init__(self, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._sealer = RecordSealer(ring, KIND)
        self._damaged = damaged

    def seal(self, content: BundleContent, document_id: bytes) -> Document:
        """Return the fields of the document that shall hold the content."""
        return self._sealer.seal(content, document_id)

    def open(self, document: Document) -> BundleContent | None:
        """Return what a bundle holds; None, and a line in the log, for one that does not open."""
        try:
            return self._sealer.open(BundleContent, document)
        except Unsealable:
            identifier: Any = document["_id"]
            self._damaged.inc()
            log.error(
                "gathered messages do not open: changed in the database, or their key is not in the ring",
                id=identifier.hex() if isinstance(identifier, bytes) else None,
            )
            return None


def document_id(position: int) -> bytes:
    """Return the id of the bundle at a position: ids sort as positions do."""
    return position.to_bytes(POSITION_BYTES, "big")


def position_of(document: Document) -> int:
    """Return the position of a bundle."""
    return int.from_bytes(document["_id"], "big")
