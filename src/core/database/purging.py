"""Deleting now what TTL indexes would delete in the next TTL pass."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from .mongo import Indexes, Mongo, translate_mongo_errors

BATCH = 1000
"""Documents that are deleted with one command, so that none outlasts its time."""


def expiry_fields(indexes: Indexes) -> dict[str, str]:
    """Return the field by which each collection expires, of those that do."""
    found = {}
    for collection, models in indexes.items():
        for model in models:
            if "expireAfterSeconds" in model.document:
                [found[collection]] = model.document["key"]
    return found


async def purge(mongo: Mongo, indexes: Indexes) -> AsyncIterator[tuple[str, int]]:
    """Delete what has expired; yield each collection with how many documents went. Raises `Unavailable`."""
    for name, field in expiry_fields(indexes).items():
        yield name, await delete_expired(mongo.collection(name), field, mongo.clock.now())


async def delete_expired(collection: Any, field: str, now: datetime) -> int:
    """Delete the documents whose time in a field has come, a batch at a time, and return how many.

    ``now`` finds them in the index of the field; what is deleted has expired by MongoDB's own clock. Raises
    `Unavailable`.
    """
    total, deleted = 0, None
    expired = {field: {"$lte": now}}
    while deleted != 0:
        with translate_mongo_errors():
            documents = await collection.find(expired, {"_id": 1}).limit(BATCH).to_list(None)
            # The query again: what has been given a longer life meanwhile stays.
            ids = {"_id": {"$in": [document["_id"] for document in documents]}}
            query = {**ids, **expired, "$expr": {"$lte": [f"${field}", "$$NOW"]}}
            deleted = (await collection.delete_many(query)).deleted_count if documents else 0
        total += deleted
    return total
