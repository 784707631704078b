"""Likes and dislikes: one for each user, counted exactly under concurrency."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from src.core.clock import utc_now
from src.core.database.group_commit import group_commit
from src.posts.reactions import Reaction, ReactionStore

from .conftest import Api
from .test_posts import publish

Serve = Callable[..., Awaitable[Api]]


def of_post(post_id: bytes) -> dict[str, bytes]:
    """Return the id range of a post's reactions."""
    return {"$gte": post_id + bytes(16), "$lte": post_id + b"\xff" * 16}


async def recounted(api: Api) -> dict[bytes, tuple[int, int]]:
    """Return the counts of each post, checked against its reactions."""
    counts = {}
    async for post in api.mongo.collection("posts").find({}):
        counted = [
            await api.mongo.collection("reactions").count_documents({"_id": of_post(post["_id"]), "kind": kind})
            for kind in ("like", "dislike")
        ]
        assert counted == [post["likes"], post["dislikes"]]
        counts[post["_id"]] = (post["likes"], post["dislikes"])
    return counts


async def test_reactions_are_idempotent(api: Api) -> None:
    """A second like counts once, a dislike replaces it, and removal removes it."""
    token = await api.sign_up()
    path = f"/posts/{(await publish(api, token))['id']}"

    async def react(method: str, what: str) -> tuple[Any, ...]:
        status, answer = await api.call(method, f"{path}/{what}", token=token)
        assert 200 == status
        return answer["likes"], answer["dislikes"], answer["mine"]

    assert (1, 0, "like") == await react("PUT", "like")
    assert (1, 0, "like") == await react("PUT", "like")
    assert (0, 1, "dislike") == await react("PUT", "dislike")
    assert "dislike" == (await api.call("GET", path, token=token))[1]["mine"]
    assert (0, 0, None) == await react("DELETE", "reaction")
    assert (0, 0, None) == await react("DELETE", "reaction")
    assert [(0, 0)] == list((await recounted(api)).values())


async def test_reactions_of_many_users_at_once_are_all_counted(serve: Serve) -> None:
    """On 2 servers with the same database: likes, then half of them dislikes, then some removed."""
    one = await serve()
    token = await one.sign_up()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    post_ids = [bytes.fromhex((await publish(one, token))["id"]) for _ in range(2)]
    batching = group_commit(max_batch=50, max_queue=1000)
    stores = [ReactionStore(api.mongo, batching) for api in (one, other)]
    users = [number.to_bytes(16, "big") for number in range(300)]

    async def react(number: int, reaction: Reaction | None) -> None:
        for post_id in post_ids:
            answer = await stores[number % 2].react(post_id, users[number], reaction)
            assert answer is not None
            assert reaction == answer.mine

    await asyncio.gather(*(react(number, Reaction.LIKE) for number in range(300)))
    assert {(300, 0)} == set((await recounted(one)).values())
    await asyncio.gather(*(react(number, Reaction.DISLIKE) for number in range(0, 300, 2)))
    assert {(150, 150)} == set((await recounted(one)).values())
    await asyncio.gather(*(react(number, None) for number in range(100)))
    assert {(100, 100)} == set((await recounted(one)).values())


async def test_parallel_reactions_of_one_user_count_once(api: Api) -> None:
    """In whichever order the requests are executed, there is one reaction, and it is counted."""
    token = await api.sign_up()
    path = f"/posts/{(await publish(api, token))['id']}"

    await asyncio.gather(
        *(api.call("PUT", f"{path}/{what}", token=token) for _ in range(20) for what in ("like", "dislike"))
    )

    assert {(1, 0), (0, 1)} >= set((await recounted(api)).values())
    assert 1 == await api.mongo.collection("reactions").count_documents({})


async def test_reactions_to_a_post_that_is_being_deleted_leave_nothing(api: Api) -> None:
    """They race with the deletion: each is rejected or deleted with the post."""
    token = await api.sign_up()
    post = await publish(api, token)
    store = ReactionStore(api.mongo, group_commit(max_batch=10, max_queue=1000))
    post_id = bytes.fromhex(post["id"])

    reacting = [store.react(post_id, number.to_bytes(16, "big"), Reaction.LIKE) for number in range(100)]
    deleting = api.call("DELETE", f"/posts/{post['id']}", token=token)
    _, (status, _) = await asyncio.gather(asyncio.gather(*reacting), deleting)

    assert 204 == status
    assert None is await store.react(post_id, bytes(16), Reaction.LIKE)
    assert 0 == await api.mongo.collection("reactions").count_documents({})


async def test_more_reactions_than_fit_one_batch_are_withdrawn(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Including those to posts that have expired meanwhile."""
    monkeypatch.setattr("src.posts.reactions.WITHDRAWN_AT_ONCE", 3)
    token = await api.sign_up()
    store = ReactionStore(api.mongo, group_commit(max_batch=10, max_queue=1000))
    posts = [bytes.fromhex((await publish(api, token))["id"]) for _ in range(10)]
    for post_id in posts:
        for user in (b"a" * 16, b"b" * 16):
            await store.react(post_id, user, Reaction.LIKE)
    await api.mongo.collection("posts").update_one({"_id": posts[4]}, {"$set": {"expires_at": utc_now()}})

    await store.withdraw_all(b"a" * 16)

    await api.mongo.collection("posts").delete_one({"_id": posts[4]})
    assert {(1, 0)} == set((await recounted(api)).values())
    assert 0 == await api.mongo.collection("reactions").count_documents({"user_id": b"a" * 16})


async def test_a_reaction_expires_with_its_post(api: Api) -> None:
    """It has the post's expiry, so MongoDB deletes both."""
    token = await api.sign_up()
    lifetimes: list[dict[str, Any]] = [{}, {"ttl": {"days": 1}}]
    for fields in lifetimes:
        post = await publish(api, token, **fields)
        await api.call("PUT", f"/posts/{post['id']}/like", token=token)

    for post in await api.mongo.collection("posts").find({}).to_list(None):
        reaction = await api.mongo.collection("reactions").find_one({"_id": of_post(post["_id"])})
        assert post["expires_at"] == reaction["expires_at"]
