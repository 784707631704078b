"""Likes and dislikes in MongoDB: at most one reaction of each user to a post, and consistent counts on the post.

A reaction and the counts change in one transaction. Concurrent reactions share a transaction, so that a thousand users
who like a post at the same time do not conflict on its counts a thousand times. Conflicts between workers remain, and
MongoDB has one of the two transactions retry.
"""

from collections.abc import Container, Sequence
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import structlog
from pymongo import DeleteOne, IndexModel, ReplaceOne, UpdateOne

from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged
from . import store
from .feed import ID_BYTES

COLLECTION = "reactions"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
        IndexModel("user_id", name="user_id"),
        IndexModel([("reacted_at", 1), ("kind", 1), ("expires_at", 1)], name="reacted_at"),
    ]
}
WITHDRAWN_AT_ONCE = 200
"""Reactions that are withdrawn in one transaction when a user is deleted."""

log = structlog.get_logger(__name__)


class Reaction(StrEnum):
    """A user's reaction to a post."""

    LIKE = "like"
    DISLIKE = "dislike"


_COUNTS = {Reaction.LIKE: "likes", Reaction.DISLIKE: "dislikes"}


class Reactions(NamedTuple):
    """The counts of a post, and the caller's own reaction."""

    likes: int
    dislikes: int
    mine: Reaction | None


class _Change(NamedTuple):
    post_id: bytes
    user_id: bytes
    reaction: Reaction | None

    @property
    def document_id(self) -> bytes:
        return self.post_id + self.user_id


class ReactionStore:
    """All queries on reactions; ``damaged`` counts posts with impossible counts."""

    def __init__(self, mongo: Mongo, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._mongo = mongo
        self._damaged = damaged
        self._posts = mongo.collection(store.COLLECTION)
        self._reactions = mongo.collection(COLLECTION)
        # Two reactions of one user to one post never share a transaction: they are applied in order.
        self._changes = batching("change_reactions", self._change_each, key=lambda change: change.document_id)

    async def react(self, post_id: bytes, user_id: bytes, reaction: Reaction | None) -> Reactions | None:
        """Set a user's reaction to a post; ``reaction`` None withdraws it.

        Returns None if there is no such post. Raises `Damaged`.
        """
        return await self._changes.submit(_Change(post_id, user_id, reaction))

    async def of_user(self, user_id: bytes, post_ids: Sequence[bytes]) -> dict[bytes, Reaction]:
        """Return a user's reactions to the given posts."""
        with translate_mongo_errors():
            documents = await self._reactions.find(
                {"_id": {"$in": [post_id + user_id for post_id in post_ids]}}, {"kind": 1}
            ).to_list(None)
        kinds = {document["_id"][:ID_BYTES]: _kind(document) for document in documents}
        return {post_id: kind for post_id, kind in kinds.items() if kind is not None}

    async def withdraw_all(self, user_id: bytes) -> None:
        """Withdraw all reactions of a user, and correct the counts."""
        while True:
            with translate_mongo_errors():
                documents = (
                    await self._reactions.find({"user_id": user_id}, {"_id": 1}).limit(WITHDRAWN_AT_ONCE).to_list(None)
                )
            if not documents:
                return
            ids = [document["_id"] for document in documents]
            changed = await self._change_each([_Change(one[:ID_BYTES], user_id, None) for one in ids])
            # A post that has expired, is being deleted or is damaged has no counts to correct.
            orphans = [one for one, done in zip(ids, changed, strict=True) if not isinstance(done, Reactions)]
            if orphans:
                with translate_mongo_errors():
                    await self._reactions.delete_many({"_id": {"$in": orphans}})

    async def remove_of(self, post_id: bytes) -> None:
        """Delete all reactions to a hidden post."""
        with translate_mongo_errors():
            await self._reactions.delete_many(
                {"_id": {"$gte": post_id + bytes(ID_BYTES), "$lte": post_id + b"\xff" * ID_BYTES}}
            )

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._changes.close()

    async def _change_each(self, changes: Sequence[_Change]) -> Sequence[Reactions | Damaged | None]:
        return await self._mongo.transact(partial(self._change_all, changes))

    async def _change_all(self, changes: Sequence[_Change], session: Any) -> list[Reactions | Damaged | None]:
        now = self._mongo.clock.now()
        query = {"_id": {"$in": list({change.post_id for change in changes})}, **store.VISIBLE}
        fields = {"likes": 1, "dislikes": 1, "expires_at": 1}
        posts = {one["_id"]: one for one in await self._posts.find(query, fields, session=session).to_list(None)}
        damaged = {post_id for post_id, post in posts.items() if not self._is_sound(post)}
        known = {"_id": {"$in": [change.document_id for change in changes]}}
        present = {one["_id"]: one for one in await self._reactions.find(known, session=session).to_list(None)}
        writes: list[Any] = []
        touched: set[bytes] = set()
        for change in changes:
            post, document = posts.get(change.post_id), present.get(change.document_id)
            before = _kind(document) if document else None
            if (
                post is None
                or change.post_id in damaged
                or (before == change.reaction and bool(before) == bool(document))
            ):
                continue
            touched.add(change.post_id)
            for reaction, by in ((before, -1), (change.reaction, 1)):
                if reaction is not None:
                    post[_COUNTS[reaction]] += by
            writes.append(_write(change, post["expires_at"], now))
        if writes:
            # The posts first, so that transactions that change the same post conflict before they do the rest.
            counts = [UpdateOne({"_id": one}, {"$set": _counts(posts[one])}) for one in touched]
            await self._posts.bulk_write(counts, ordered=False, session=session)
            await self._reactions.bulk_write(writes, ordered=False, session=session)
        return [_outcome(change, posts.get(change.post_id), damaged) for change in changes]

    def _is_sound(self, post: Document) -> bool:
        try:
            store.check_counts(post)
        except Damaged:
            self._damaged.inc()
            log.error("reaction counts of a post were modified in the database", id=post["_id"].hex())
            return False
        return True


def _outcome(change: _Change, post: Document | None, damaged: Container[bytes]) -> Reactions | Damaged | None:
    if post is None:
        return None
    if change.post_id in damaged:
        return Damaged(store.DAMAGED)
    return Reactions(post["likes"], post["dislikes"], change.reaction)


def _kind(document: Document) -> Reaction | None:
    """Return the kind of a reaction; None for one that was changed in the database, which does not count."""
    kind = document.get("kind")
    return Reaction(kind) if kind in _COUNTS else None


def _write(change: _Change, expires_at: datetime, now: datetime) -> ReplaceOne[Document] | DeleteOne:
    if change.reaction is None:
        return DeleteOne({"_id": change.document_id})
    document = {"user_id": change.user_id, "kind": change.reaction.value, "reacted_at": now, "expires_at": expires_at}
    return ReplaceOne({"_id": change.document_id}, document, upsert=True)


def _counts(post: Document) -> Document:
    return {"likes": post["likes"], "dislikes": post["dislikes"]}
