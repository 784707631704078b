"""Deletes expired documents now, not with the next pass of the TTL monitor."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from .mongo import Indexes, Mongo, translate_mongo_errors

BATCH = 128
"""Documents deleted with one command, so that no command exceeds its timeout: each may have 1 MiB of a file."""


def expiry_fields(indexes: Indexes) -> dict[str, str]:
    """Return the TTL field of each collection that has one."""
    found = {}
    for collection, models in indexes.items():
        for model in models:
            if "expireAfterSeconds" in model.document:
                [found[collection]] = model.document["key"]
    return found


async def purge(mongo: Mongo, indexes: Indexes) -> AsyncIterator[tuple[str, int]]:
    """Delete expired documents, and yield each collection with the number deleted. Raises `Unavailable`."""
    for name, field in expiry_fields(indexes).items():
        yield name, await delete_expired(mongo.collection(name), field, mongo.clock.now())


async def delete_expired(collection: Any, field: str, now: datetime) -> int:
    """Delete the documents whose TTL field has passed, in batches, and return their number.

    ``now`` selects them by the index of the field; only documents that have expired by MongoDB's clock are deleted.
    Raises `Unavailable`.
    """
    total, deleted = 0, None
    expired = {field: {"$lte": now}}
    while deleted != 0:
        with translate_mongo_errors():
            documents = await collection.find(expired, {"_id": 1}).limit(BATCH).to_list(None)
            # The query again: a document whose expiry was extended meanwhile stays.
            ids = {"_id": {"$in": [document["_id"] for document in documents]}}
            query = {**ids, **expired, "$expr": {"$lte": [f"${field}", "$$NOW"]}}
            deleted = (await collection.delete_many(query)).deleted_count if documents else 0
        total += deleted
    return total
