"""Creates a year of posts with reactions for the bench to list and count, with the service's own code, without HTTP."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from src.accounts.users import User, UserContent, UserStore
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.posts import reactions, store
from src.posts.feed import ID_BYTES, new_post_id
from src.posts.reactions import Reaction
from src.posts.store import NEVER, Post, PostContent, PostStore
from src.settings import Settings

IN_FLIGHT = 256
AUTHORS = 10
SPAN = timedelta(days=364)
"""With the current day, the posts cover 365 days."""
REACTIONS_PER_POST = 2
KINDS = (Reaction.LIKE, Reaction.LIKE, Reaction.LIKE, Reaction.DISLIKE)
CONTENT = "What there is to say today, and why it matters to you. " * 4
INSERTED_AT_ONCE = 5000
STEPS = 10

Item = TypeVar("Item")


@dataclass(frozen=True)
class PostsDatabase:
    """The contents of the database. The first `AUTHORS` users are the authors, with the same number of posts each."""

    people: list[User]
    post_ids: list[bytes]
    likes: int
    dislikes: int


async def fill_posts(mongo_url: str, ring: KeyRing, *, posts: int, people: int) -> PostsDatabase:
    """Create users, posts and reactions in the running stack's database."""
    mongo = Mongo(Settings(_env_file=None), mongo_url)
    batching = group_commit(max_batch=1000, max_queue=IN_FLIGHT)
    users, published = UserStore(mongo, ring, batching), PostStore(mongo, ring, batching)
    made: list[User] = []

    async def make(number: int) -> None:
        user = await users.add(UserContent(username=f"bench-{number}"))
        if user is None:
            raise RuntimeError("the database is not empty")
        made.append(user)

    await _each("people", range(people), make)
    choose = random.Random(posts)  # noqa: S311 (the posts are not secret)
    ended = utc_now()
    times = sorted(ended - SPAN * choose.random() for _ in range(posts))
    # Chosen in advance, because the counts are stored with the post.
    kinds = [[choose.choice(KINDS) for _ in range(REACTIONS_PER_POST)] for _ in range(posts)]
    ids = [new_post_id(at) for at in times]

    async def publish(number: int) -> None:
        author = made[number % AUTHORS]
        await published.add(
            Post(
                post_id=ids[number],
                content=PostContent(author_id=author.user_id, title=f"Day {number}", content=CONTENT),
                created_at=times[number],
                expires_at=None,
                likes=kinds[number].count(Reaction.LIKE),
                dislikes=kinds[number].count(Reaction.DISLIKE),
            )
        )

    await _each("posts", range(posts), publish)

    def reacted_at(number: int) -> datetime:
        return times[number] + (ended - times[number]) * choose.random()

    documents = [
        {
            "_id": ids[number] + reader.user_id,
            "user_id": reader.user_id,
            "kind": kind.value,
            "reacted_at": reacted_at(number),
            "expires_at": NEVER,
        }
        for number in range(posts)
        for reader, kind in zip(choose.sample(made, REACTIONS_PER_POST), kinds[number], strict=True)
    ]

    async def insert(begin: int) -> None:
        await mongo.collection(reactions.COLLECTION).insert_many(
            documents[begin : begin + INSERTED_AT_ONCE], ordered=False
        )

    await _each(
        f"batches of {INSERTED_AT_ONCE} reactions", range(0, len(documents), INSERTED_AT_ONCE), insert, at_once=1
    )
    await users.close()
    await published.close()
    await mongo.close()
    liked = sum(one.count(Reaction.LIKE) for one in kinds)
    return PostsDatabase(made, ids, liked, len(documents) - liked)


async def count_reactions(mongo_url: str, post_id: bytes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the stored counts of likes and dislikes of a post, and the counts of its reactions, from one snapshot.

    Requests in flight at the end of the load may still complete, hence the transaction.
    """
    mongo = Mongo(Settings(_env_file=None), mongo_url)

    async def read(session: Any) -> tuple[Any, list[Any]]:
        post = await mongo.collection(store.COLLECTION).find_one({"_id": post_id}, session=session)
        query = {"_id": {"$gte": post_id + bytes(ID_BYTES), "$lte": post_id + b"\xff" * ID_BYTES}}
        found = mongo.collection(reactions.COLLECTION).find(query, {"kind": 1}, session=session)
        return post, await found.to_list(None)

    post, found = await mongo.transact(read)
    await mongo.close()
    kinds = [one["kind"] for one in found]
    return (post["likes"], post["dislikes"]), (kinds.count(Reaction.LIKE), kinds.count(Reaction.DISLIKE))


async def _each(
    label: str, items: Sequence[Item], work: Callable[[Item], Awaitable[None]], *, at_once: int = IN_FLIGHT
) -> None:
    """Process all items, ``at_once`` concurrently, and print the progress."""
    waiting, done, step = iter(items), 0, max(1, len(items) // STEPS)

    async def work_through() -> None:
        nonlocal done
        for item in waiting:
            await work(item)
            done += 1
            if done % step == 0 or done == len(items):
                print(f"\r{label}: {done:,} of {len(items):,}", end="", flush=True)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(work_through())
    print()
