"""Posts in MongoDB: title and content are sealed; queries are by id and by author, newest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog
from pymongo import DESCENDING, IndexModel

from ..core.clock import UNEXPIRED
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, insert_each, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged

COLLECTION = "posts"
KIND = "post"
DAMAGED = "This post is damaged and cannot be read. Its author can delete it."
NEVER = datetime(9999, 1, 1, tzinfo=UTC)
"""The stored expiry of a post that has none, so that one range query, which an index covers, finds every post."""
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
        IndexModel([("author_id", 1), ("_id", DESCENDING)], name="author_id"),
        IndexModel([("created_at", 1), ("expires_at", 1), ("deleted", 1)], name="created_at"),
        IndexModel("deleted", name="deleted", partialFilterExpression={"deleted": True}),
    ]
}

log = structlog.get_logger(__name__)


class PostContent(Content):
    """The sealed part of a post."""

    author_id: bytes
    title: str | None
    content: str


RESEALABLE = Resealable(COLLECTION, KIND, PostContent)


@dataclass(frozen=True, kw_only=True)
class Post:
    """A post; without ``expires_at`` it stays until it is deleted."""

    post_id: bytes
    content: PostContent
    created_at: datetime
    expires_at: datetime | None
    likes: int
    dislikes: int


VISIBLE: Document = {"deleted": False, **UNEXPIRED}
"""The filter for posts that have neither expired nor been deleted, for queries by id."""


def visible(now: datetime) -> Document:
    """Return the filter `VISIBLE` as a range that an index can answer."""
    return {"deleted": False, "expires_at": {"$gt": now}}


def older_than(before: bytes | None, author_id: bytes | None, now: datetime) -> tuple[Document, str]:
    """Return the filter for a page of the feed, and the name of the index to use.

    Without the hint, MongoDB may choose an index on a time and sort everything that it finds there.
    """
    query = visible(now)
    if before is not None:
        query["_id"] = {"$lt": before}
    if author_id is None:
        return query, "_id_"
    return {**query, "author_id": author_id}, "author_id"


class PostStore:
    """All queries on posts except for counting reactions; ``damaged`` counts the posts that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._inserts = batching("insert_posts", partial(insert_each, self._collection))
        self._finds = batching("find_posts", self._find_each)
        self._damaged = damaged

    async def add(self, post: Post) -> None:
        """Store a new post; returns once a majority has it in its journal."""
        await self._inserts.submit(
            {
                "_id": post.post_id,
                "author_id": post.content.author_id,
                "created_at": post.created_at,
                "expires_at": post.expires_at or NEVER,
                "deleted": False,
                "likes": post.likes,
                "dislikes": post.dislikes,
                **self._sealer.seal(post.content, post.post_id),
            }
        )

    async def find(self, post_id: bytes) -> Post | None:
        """Return a post; None if there is none (any more). Raises `Damaged`."""
        return await self._finds.submit(post_id)

    async def page(
        self, *, author_id: bytes | None, before: bytes | None, limit: int
    ) -> tuple[list[Post], bytes | None]:
        """Return up to ``limit`` posts older than the post ``before``, newest first.

        The second value is the id of the last post if more follow. A post that cannot be read is logged and left out.
        """
        query, index = older_than(before, author_id, self._clock.now())
        with translate_mongo_errors():
            found = self._collection.find(query).hint(index).sort("_id", DESCENDING).limit(limit + 1)
            documents = await found.to_list(None)
        posts = (self._post_or_error(document) for document in documents[:limit])
        last = documents[limit - 1]["_id"] if len(documents) > limit else None
        return [post for post in posts if isinstance(post, Post)], last

    async def count(self, author_id: bytes | None) -> int:
        """Return the number of visible posts, of all authors or of one."""
        query = visible(self._clock.now())
        if author_id is not None:
            query["author_id"] = author_id
        with translate_mongo_errors():
            return int(await self._collection.count_documents(query))

    async def mark_deleted(self, post_id: bytes, author_id: bytes | None) -> bool:
        """Hide a post, for the deletion that follows; False if there is none, or another author wrote it."""
        query = {"_id": post_id, **VISIBLE}
        if author_id is not None:
            query["author_id"] = author_id
        with translate_mongo_errors():
            result = await self._collection.update_one(query, {"$set": {"deleted": True}})
        return bool(result.matched_count)

    async def mark_all_deleted(self, author_id: bytes) -> int:
        """Hide all posts of an author, and return how many there were."""
        query = {"author_id": author_id, "deleted": False}
        with translate_mongo_errors():
            result = await self._collection.update_many(query, {"$set": {"deleted": True}})
        return int(result.modified_count)

    async def marked(self) -> list[bytes]:
        """Return the ids of the posts whose deletion has begun."""
        with translate_mongo_errors():
            documents = await self._collection.find({"deleted": True}, {"_id": 1}).to_list(None)
        return [document["_id"] for document in documents]

    async def remove(self, post_id: bytes) -> None:
        """Delete a marked post."""
        with translate_mongo_errors():
            await self._collection.delete_one({"_id": post_id, "deleted": True})

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._inserts.close()
        await self._finds.close()

    async def _find_each(self, post_ids: Sequence[bytes]) -> Sequence[Post | Exception | None]:
        query = {"_id": {"$in": list(set(post_ids))}, **VISIBLE}
        with translate_mongo_errors():
            documents = await self._collection.find(query).to_list(None)
        found = {document["_id"]: self._post_or_error(document) for document in documents}
        return [found.get(post_id) for post_id in post_ids]

    def _post_or_error(self, document: Document) -> Post | Damaged:
        post_id: bytes = document["_id"]
        try:
            check_counts(document)
            content = self._sealer.open(PostContent, document)
            created_at, expires_at = (_moment(document, name) for name in ("created_at", "expires_at"))
        except (Unsealable, Damaged):
            content = None
        if content is None or content.author_id != document.get("author_id"):
            self._damaged.inc()
            log.error(
                "post cannot be decrypted: modified in the database, or its key is not in the key ring",
                id=post_id.hex(),
            )
            return Damaged(DAMAGED)
        return Post(
            post_id=post_id,
            content=content,
            created_at=created_at,
            expires_at=None if expires_at == NEVER else expires_at,
            likes=document["likes"],
            dislikes=document["dislikes"],
        )


def check_counts(document: Document) -> None:
    """Raise `Damaged` for a post whose counts this program cannot have written."""
    for name in ("likes", "dislikes"):
        count = document.get(name)
        if type(count) is not int or count < 0:
            raise Damaged(DAMAGED)


def _moment(document: Document, name: str) -> datetime:
    moment = document.get(name)
    if not isinstance(moment, datetime):
        raise Damaged(DAMAGED)
    return moment
