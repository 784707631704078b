"""Likes and dislikes in MongoDB: one of each user for a post, and on the post their counts, which always agree.

A reaction and the counts change in one transaction. The reactions that come at once share one, so that a thousand
people who like a post together do not fight over its counts a thousand times; what is left of the fight, between
workers, MongoDB settles by having one of them try again.
"""

from collections.abc import Container, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

import structlog
from pymongo import DeleteOne, IndexModel, ReplaceOne, UpdateOne

from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged
from . import store
from .post_id import ID_BYTES

COLLECTION = "reactions"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
        IndexModel("user_id", name="user_id"),
        IndexModel([("reacted_at", 1), ("kind", 1), ("expires_at", 1)], name="reacted_at"),
    ]
}
WITHDRAWN_AT_ONCE = 200
"""Reactions of a user who leaves that are withdrawn at the same time."""

log = structlog.get_logger(__name__)


class Reaction(StrEnum):
    """What a user makes of a post."""

    LIKE = "like"
    DISLIKE = "dislike"


_COUNTS = {Reaction.LIKE: "likes", Reaction.DISLIKE: "dislikes"}


class Reactions(NamedTuple):
    """The counts of a post, and what the user who asks has made of it."""

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
    """Every query on reactions; ``damaged`` counts posts whose counts cannot be."""

    def __init__(self, mongo: Mongo, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._mongo = mongo
        self._damaged = damaged
        self._posts = mongo.collection(store.COLLECTION)
        self._reactions = mongo.collection(COLLECTION)
        # What one user makes of one post twice at once is done one after the other.
        self._changes = batching("change_reactions", self._change_each, key=lambda change: change.document_id)

    async def react(self, post_id: bytes, user_id: bytes, reaction: Reaction | None) -> Reactions | None:
        """Let this be what a user makes of a post, whatever it was; None where there is no such post.

        Raises `Damaged`.
        """
        return await self._changes.submit(_Change(post_id, user_id, reaction))

    async def of_user(self, user_id: bytes, post_ids: Sequence[bytes]) -> dict[bytes, Reaction]:
        """Return what a user has made of some posts."""
        with translate_mongo_errors():
            documents = await self._reactions.find(
                {"_id": {"$in": [post_id + user_id for post_id in post_ids]}}, {"kind": 1}
            ).to_list(None)
        kinds = {document["_id"][:ID_BYTES]: _kind(document) for document in documents}
        return {post_id: kind for post_id, kind in kinds.items() if kind is not None}

    async def withdraw_all(self, user_id: bytes) -> None:
        """Take back every reaction of a user, counts included."""
        while True:
            with translate_mongo_errors():
                documents = (
                    await self._reactions.find({"user_id": user_id}, {"_id": 1}).limit(WITHDRAWN_AT_ONCE).to_list(None)
                )
            if not documents:
                return
            ids = [document["_id"] for document in documents]
            changed = await self._change_each([_Change(one[:ID_BYTES], user_id, None) for one in ids])
            # Of a post that has expired, is being deleted or is damaged there is no count to keep.
            orphans = [one for one, done in zip(ids, changed, strict=True) if not isinstance(done, Reactions)]
            if orphans:
                with translate_mongo_errors():
                    await self._reactions.delete_many({"_id": {"$in": orphans}})

    async def remove_of(self, post_id: bytes) -> None:
        """Delete all reactions to a post that is invisible already."""
        with translate_mongo_errors():
            await self._reactions.delete_many(
                {"_id": {"$gte": post_id + bytes(ID_BYTES), "$lte": post_id + b"\xff" * ID_BYTES}}
            )

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._changes.close()

    async def _change_each(self, changes: Sequence[_Change]) -> Sequence[Reactions | Damaged | None]:
        async def work(session: Any) -> list[Reactions | Damaged | None]:
            return await self._change_all(changes, session)

        return await self._mongo.transact(work)

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
            # The posts first: two that change one post meet here, before they have done the rest in vain.
            counts = [UpdateOne({"_id": one}, {"$set": _counts(posts[one])}) for one in touched]
            await self._posts.bulk_write(counts, ordered=False, session=session)
            await self._reactions.bulk_write(writes, ordered=False, session=session)
        return [_outcome(change, posts.get(change.post_id), damaged) for change in changes]

    def _is_sound(self, post: Document) -> bool:
        try:
            store.check_counts(post)
        except Damaged:
            self._damaged.inc()
            log.error("the counts of a post were changed in the database", id=post["_id"].hex())
            return False
        return True


def _outcome(change: _Change, post: Document | None, damaged: Container[bytes]) -> Reactions | Damaged | None:
    if post is None:
        return None
    if change.post_id in damaged:
        return Damaged(store.DAMAGED)
    return Reactions(post["likes"], post["dislikes"], change.reaction)


def _kind(document: Document) -> Reaction | None:
    """Return what a reaction says; None for one that was changed in the database, which counts for nothing."""
    kind = document.get("kind")
    return Reaction(kind) if kind in _COUNTS else None


def _write(change: _Change, expires_at: datetime, now: datetime) -> ReplaceOne[Document] | DeleteOne:
    if change.reaction is None:
        return DeleteOne({"_id": change.document_id})
    document = {"user_id": change.user_id, "kind": change.reaction.value, "reacted_at": now, "expires_at": expires_at}
    return ReplaceOne({"_id": change.document_id}, document, upsert=True)


def _counts(post: Document) -> Document:
    return {"likes": post["likes"], "dislikes": post["dislikes"]}
