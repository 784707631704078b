"""What the gatherer has counted: how many messages each sender has sent, and up to which bundle that is counted.

Bundles are counted after they were stored: a worker that dies in between leaves that to the next one. So what is known
of a sender is its count, and the bundles that are not counted yet. Counting twice does no harm.
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
"""The id of the one document that is no user's: theirs have 16 bytes."""
EPOCH_BYTES = 16


@dataclass(frozen=True)
class Counts:
    """What is counted of the bundles up to a position: each sender's last number, 0 for none.

    ``epoch`` tells this run of positions from that of another database. ``now`` is the database's time, which does not
    go back behind the time of a bundle that is counted.
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
        """Return what is counted, for some senders. Raises `Unavailable`."""
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
        """Keep that the bundles up to a position, and with it up to a time, are counted, with these last numbers.

        A sender who is not there any more is not brought back. Raises `Unavailable`.
        """
        updates = [UpdateOne({"_id": user_id}, {"$max": {"last": last}}) for user_id, last in lasts.items()]
        # The position last: until it is there, the bundles are looked at.
        updates.append(UpdateOne({"_id": TOTAL}, {"$max": {"position": position, "received_at": received_at}}))
        with translate_mongo_errors():
            await self._collection.bulk_write(updates)

    async def forget(self, user_id: bytes) -> None:
        """Delete what was counted of a user."""
        with translate_mongo_errors():
            await self._collection.delete_one({"_id": user_id})

    async def _begin(self, missing: Collection[bytes]) -> None:
        """Begin to count where nobody has."""
        total = {"_id": TOTAL, "epoch": secrets.token_bytes(EPOCH_BYTES), "position": 0}
        documents = [total if one == TOTAL else {"_id": one, "last": 0} for one in missing]
        with translate_mongo_errors():
            try:
                await self._collection.insert_many(documents, ordered=False)
            except BulkWriteError as error:
                if any(failure["code"] != DUPLICATE for failure in error.details.get("writeErrors", ())):
                    raise
                # Somebody else has, and perhaps no majority yet.
                if error.details.get("writeConcernErrors"):
                    raise Unavailable from None
