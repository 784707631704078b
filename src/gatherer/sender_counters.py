"""How many messages each sender has sent, and up to which bundle they are counted.

Bundles are counted after they are stored. If a worker dies in between, the next one counts them: a sender's last number
follows from the counter and the bundles that are not counted yet. Counting a bundle twice has no effect.
"""

import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from pymongo import UpdateOne
from pymongo.errors import BulkWriteError

from ..core.database.mongo import DUPLICATE, Indexes, Mongo, translate_mongo_errors
from ..errors import Unavailable

COLLECTION = "gathered_counters"
INDEXES: Indexes = {COLLECTION: []}
TOTAL = b"total"
"""The id of the document for all senders. Ids of users have 16 bytes."""
EPOCH_BYTES = 16


@dataclass(frozen=True)
class Counts:
    """Each sender's last number, or 0, in the bundles up to a position.

    ``epoch`` identifies this sequence of positions; another database has another one. ``now`` is the database's time,
    and never earlier than the time of a counted bundle.
    """

    epoch: bytes
    position: int
    now: datetime
    lasts: Mapping[bytes, int]


class SenderCounters:
    """Every query on the counters."""

    def __init__(self, mongo: Mongo) -> None:
        self._collection = mongo.collection(COLLECTION)

    async def read(self, user_ids: Collection[bytes] = ()) -> Counts:
        """Return the counts of some senders. Raises `Unavailable`."""
        while True:
            wanted = {"_id": {"$in": [TOTAL, *user_ids]}}
            fields = {"epoch": 1, "position": 1, "received_at": 1, "last": 1, "now": "$$NOW"}
            with translate_mongo_errors():
                documents = await self._collection.find(wanted, fields).to_list(None)
            found = {document["_id"]: document for document in documents}
            missing = [one for one in (TOTAL, *user_ids) if one not in found]
            if not missing:
                total = found[TOTAL]
                lasts = {user_id: found[user_id]["last"] for user_id in user_ids}
                now = max(total["now"], total.get("received_at", total["now"]))
                return Counts(total["epoch"], total["position"], now, lasts)
            await self._begin(missing)

    async def note(self, position: int, received_at: datetime, lasts: Mapping[bytes, int]) -> None:
        """Record the last numbers in the bundles up to a position and a time.

        A counter that was deleted is not created again. Raises `Unavailable`.
        """
        updates = [UpdateOne({"_id": user_id}, {"$max": {"last": last}}) for user_id, last in lasts.items()]
        # The position comes last: until it is written, the bundles are read instead.
        updates.append(UpdateOne({"_id": TOTAL}, {"$max": {"position": position, "received_at": received_at}}))
        with translate_mongo_errors():
            await self._collection.bulk_write(updates)

    async def forget(self, user_id: bytes) -> None:
        """Delete the counter of a user."""
        with translate_mongo_errors():
            await self._collection.delete_one({"_id": user_id})

    async def _begin(self, missing: Collection[bytes]) -> None:
        """Create missing counters."""
        total = {"_id": TOTAL, "epoch": secrets.token_bytes(EPOCH_BYTES), "position": 0}
        documents = [total if one == TOTAL else {"_id": one, "last": 0} for one in missing]
        with translate_mongo_errors():
            try:
                await self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if any(failure["code"] != DUPLICATE for failure in error.details.get("writeErrors", ())):
                    raise
                # Another worker has created them, and perhaps no majority has them yet.
                if error.details.get("writeConcernErrors"):
                    raise Unavailable from None
