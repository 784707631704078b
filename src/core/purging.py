"""Deleting now what TTL indexes would delete at the database's next sweep."""

from collections.abc import AsyncIterator
from typing import Any

from .clock import utc_now
from .mongo import Document, Indexes, Mongo, answering

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
        expired = {field: {"$lte": utc_now()}}
        yield name, sum([deleted async for deleted in delete_each(mongo.collection(name), expired)])


async def delete_each(collection: Any, expired: Document) -> AsyncIterator[int]:
    """Delete what a query finds, a batch at a time; yield how many this has deleted. Raises `Unavailable`."""
    while True:
        with answering():
            documents = await collection.find(expired, {"_id": 1}).limit(BATCH).to_list(None)
            # The query again: what has been given a longer life meanwhile stays.
            ids = {"_id": {"$in": [document["_id"] for document in documents]}}
            deleted = (await collection.delete_many({**ids, **expired})).deleted_count if documents else None
        if deleted is None:
            return
        yield deleted
