"""Likes and dislikes in MongoDB: one of each user for a post, and on the post their counts, which always agree.

A reaction and the counts change in one transaction. The reactions that come at once share one, so that a thousand
people who like a post together do not fight over its counts a thousand times; what is left of the fight, between
workers, MongoDB settles by having one of them try again.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from pymongo import DeleteOne, IndexModel, ReplaceOne, UpdateOne

from ..core.batching import Batching
from ..core.clock import utc_now
from ..core.mongo import Document, Indexes, Mongo, answering
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


class Reaction(StrEnum):
    """What a user makes of a post."""

    LIKE = "like"
    DISLIKE = "dislike"


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
    """Every query on reactions."""

    def __init__(self, mongo: Mongo, batching: Batching) -> None:
        self._mongo = mongo
        self._posts = mongo.collection(store.COLLECTION)
        self._reactions = mongo.collection(COLLECTION)
        # What one user makes of one post twice at once is done one after the other.
        self._changes = batching(self._change_each, key=lambda change: change.document_id)

    async def react(self, post_id: bytes, user_id: bytes, reaction: Reaction | None) -> Reactions | None:
        """Let this be what a user makes of a post, whatever it was; None for the post where there is none."""
        return await self._changes.submit(_Change(post_id, user_id, reaction))

    async def of_user(self, user_id: bytes, post_ids: Sequence[bytes]) -> dict[bytes, Reaction]:
        """Return what a user has made of some posts."""
        with answering():
            documents = await self._reactions.find(
                {"_id": {"$in": [post_id + user_id for post_id in post_ids]}}, {"kind": 1}
            ).to_list(None)
        return {document["_id"][:ID_BYTES]: Reaction(document["kind"]) for document in documents}

    async def withdraw_all(self, user_id: bytes) -> None:
        """Take back every reaction of a user, counts included."""
        while True:
            with answering():
                documents = (
                    await self._reactions.find({"user_id": user_id}, {"_id": 1}).limit(WITHDRAWN_AT_ONCE).to_list(None)
                )
            if not documents:
                return
            ids = [document["_id"] for document in documents]
            changed = await self._change_each([_Change(one[:ID_BYTES], user_id, None) for one in ids])
            # Of a post that has expired or is being deleted there is no count to keep.
            orphans = [one for one, reactions in zip(ids, changed, strict=True) if reactions is None]
            if orphans:
                with answering():
                    await self._reactions.delete_many({"_id": {"$in": orphans}})

    async def remove_of(self, post_id: bytes) -> None:
        """Delete all reactions to a post that is invisible already."""
        with answering():
            await self._reactions.delete_many(
                {"_id": {"$gte": post_id + bytes(ID_BYTES), "$lte": post_id + b"\xff" * ID_BYTES}}
            )

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._changes.close()

    async def _change_each(self, changes: Sequence[_Change]) -> Sequence[Reactions | None]:
        async def work(session: Any) -> list[Reactions | None]:
            return await self._change_all(changes, session)

        return await self._mongo.transact(work)

    async def _change_all(self, changes: Sequence[_Change], session: Any) -> list[Reactions | None]:
        now = utc_now()
        query = {"_id": {"$in": list({change.post_id for change in changes})}, **store.visible(now)}
        fields = {"likes": 1, "dislikes": 1, "expires_at": 1}
        posts = {one["_id"]: one for one in await self._posts.find(query, fields, session=session).to_list(None)}
        known = {"_id": {"$in": [change.document_id for change in changes]}}
        present = {one["_id"]: one["kind"] for one in await self._reactions.find(known, session=session).to_list(None)}
        writes: list[Any] = []
        touched: set[bytes] = set()
        for change in changes:
            post, before = posts.get(change.post_id), present.get(change.document_id)
            if post is None or before == change.reaction:
                continue
            touched.add(change.post_id)
            for reaction, by in ((before, -1), (change.reaction, 1)):
                if reaction is not None:
                    post[_count(reaction)] += by
            writes.append(_write(change, post["expires_at"], now))
        if writes:
            # The posts first: two that change one post meet here, before they have done the rest in vain.
            counts = [UpdateOne({"_id": one}, {"$set": _counts(posts[one])}) for one in touched]
            await self._posts.bulk_write(counts, ordered=False, session=session)
            await self._reactions.bulk_write(writes, ordered=False, session=session)
        return [
            Reactions(post["likes"], post["dislikes"], change.reaction) if (post := posts.get(change.post_id)) else None
            for change in changes
        ]


def _write(change: _Change, expires_at: datetime, now: datetime) -> ReplaceOne[Document] | DeleteOne:
    if change.reaction is None:
        return DeleteOne({"_id": change.document_id})
    document = {"user_id": change.user_id, "kind": change.reaction.value, "reacted_at": now, "expires_at": expires_at}
    return ReplaceOne({"_id": change.document_id}, document, upsert=True)


def _count(reaction: str) -> str:
    return "likes" if reaction == Reaction.LIKE else "dislikes"


def _counts(post: Document) -> Document:
    return {"likes": post["likes"], "dislikes": post["dislikes"]}
