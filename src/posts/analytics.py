"""Posts and reactions by day (UTC), counted on request from indexes alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from ..core.database.mongo import Document, Mongo, aggregate, translate_mongo_errors
from ..errors import FieldError, Malformed
from . import reactions, store
from .reactions import Reaction

DAY = timedelta(days=1)
LONGEST_SPAN = timedelta(days=366)


@dataclass(frozen=True)
class Day:
    """The posts and reactions of one day that still exist."""

    date: date
    posts: int
    likes: int
    dislikes: int


class Analytics:
    """Counts posts and reactions."""

    def __init__(self, mongo: Mongo) -> None:
        self._clock = mongo.clock
        self._posts = mongo.collection(store.COLLECTION)
        self._reactions = mongo.collection(reactions.COLLECTION)

    async def days(self, first: date, last: date) -> list[Day]:
        """Return every day from the first to the last, inclusive.

        Raises `Malformed` for days in the wrong order, or too many.
        """
        if not timedelta(0) <= last - first < LONGEST_SPAN:
            reason = f"must not be before from, and at most {LONGEST_SPAN.days - 1} days after it"
            raise Malformed(errors=(FieldError("to", reason),))
        now = self._clock.now()
        # The last microsecond of the last day, because date.max has no next day.
        begin, end = datetime.combine(first, time.min, UTC), datetime.combine(last, time.max, UTC)
        posted = counting("created_at", begin, end, among=store.visible(now), kind="posts")
        reacted = counting("reacted_at", begin, end, among={"expires_at": {"$gt": now}}, kind="$kind")
        posts, made = await self._counts(self._posts, posted), await self._counts(self._reactions, reacted)
        days = (first + DAY * number for number in range((last - first).days + 1))
        return [
            Day(
                day,
                posts.get((day, "posts"), 0),
                made.get((day, Reaction.LIKE.value), 0),
                made.get((day, Reaction.DISLIKE.value), 0),
            )
            for day in days
        ]

    async def _counts(self, collection: Any, pipeline: list[Document]) -> Mapping[tuple[date, str], int]:
        with translate_mongo_errors():
            groups = await aggregate(collection, pipeline)
        return {(group["_id"]["day"].date(), group["_id"]["kind"]): group["count"] for group in groups}


def counting(field: str, begin: datetime, end: datetime, *, among: Document, kind: str) -> list[Document]:
    """Return the aggregation that counts documents by the day of a field and by an expression for the kind.

    ``begin`` and ``end`` are inclusive.
    """
    day = {"$dateTrunc": {"date": f"${field}", "unit": "day"}}
    return [
        {"$match": {field: {"$gte": begin, "$lte": end}, **among}},
        {"$group": {"_id": {"day": day, "kind": kind}, "count": {"$sum": 1}}},
    ]
