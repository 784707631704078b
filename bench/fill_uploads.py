"""Puts abandoned uploads straight into a stack's database, all of them expired."""

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import MongoClient

CHUNKS_EACH = 10
CHUNK_BYTES = 64
UPLOADS, CHUNKS = "uploads", "chunks"
_INSERTED_AT_ONCE = 10_000


def fill_uploads(database: Any, uploads: int) -> None:
    """Insert uploads of `CHUNKS_EACH` small chunks each."""
    past = datetime.now(UTC) - timedelta(minutes=1)
    size = CHUNKS_EACH * CHUNK_BYTES
    ids = [secrets.token_bytes(16) for _ in range(uploads)]
    common = {"key_id": "00000000", "delete_at": past}
    _insert(
        database[UPLOADS],
        (
            {"_id": each, **common, "size": size + 1, "offset": size, "chunks": CHUNKS_EACH, "writer": each}
            | {"created_at": past - timedelta(days=1)}
            for each in ids
        ),
    )
    data = secrets.token_bytes(CHUNK_BYTES + 29)
    _insert(
        database[CHUNKS],
        (
            {"_id": each + (number * CHUNK_BYTES).to_bytes(8, "big"), **common, "data": data}
            for each in ids
            for number in range(CHUNKS_EACH)
        ),
    )


def connect(url: str) -> "MongoClient[dict[str, Any]]":
    """Return a client that does not wait for the journal: the documents are only there to be deleted."""
    return MongoClient(url, w=1, journal=False)


def _insert(collection: Any, documents: Iterator[dict[str, Any]]) -> None:
    batch = []
    for document in documents:
        batch.append(document)
        if len(batch) == _INSERTED_AT_ONCE:
            collection.insert_many(batch, ordered=False)
            batch = []
    if batch:
        collection.insert_many(batch, ordered=False)
