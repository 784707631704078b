"""Posts through nginx and four workers: a thousand people who like one post at once are a thousand likes."""

import asyncio
import os
import signal
from typing import Any

import pytest
from aiohttp import ClientSession
from pymongo import MongoClient

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from .mongod import Mongod
from .test_accounts import ask, do
from .test_restart import all_running
from .traffic import Outcome, gather_limited

pytestmark = pytest.mark.stack

CROWD = 1000
PASSWORD = "a password of the crowd"


async def sign_up(client: ClientSession, prefix: str, count: int) -> list[str]:
    """Make users and return their access tokens."""
    tokens = [""] * count

    async def retried(path: str, credentials: dict[str, str]) -> Any:
        # On a slow machine, the queue of passwords to hash may be full.
        while (outcome := await ask(client, "POST", path, credentials)).status == 503:
            await asyncio.sleep(float(outcome.retry_after or 1))
        assert outcome.status in {200, 201}, outcome
        return outcome.body

    async def one(index: int) -> None:
        credentials = {"username": f"{prefix}-{index}", "password": PASSWORD}
        await retried("/register", credentials)
        tokens[index] = (await retried("/login", credentials))["access_token"]

    async with asyncio.timeout(3 * PATIENCE):
        await gather_limited(count, 32, one)
    return tokens


def counted(mongod: Mongod, post_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return the counts that a post has, and those of its reactions."""
    post = bytes.fromhex(post_id)
    with MongoClient[dict[str, Any]](mongod.url) as mongo:
        document = mongo["sealpost"]["posts"].find_one({"_id": post})
        query = {"_id": {"$gte": post + bytes(16), "$lte": post + b"\xff" * 16}}
        reactions = list(mongo["sealpost"]["reactions"].find(query))
    assert document is not None
    found = {kind: sum(one["kind"] == kind for one in reactions) for kind in ("like", "dislike")}
    return {"like": document["likes"], "dislike": document["dislikes"]}, found


async def react_at_once(client: ClientSession, post_id: str, tokens: list[str], what: str) -> list[Outcome]:
    """Have all of them react to a post at the same moment."""
    return await asyncio.gather(*(ask(client, "PUT", f"/posts/{post_id}/{what}", token=token) for token in tokens))


async def test_a_thousand_likes_at_once_are_a_thousand_likes(
    stack: RunningStack, mongod: Mongod, client: ClientSession
) -> None:
    """Without an error, each with its own reaction; then half of them change their minds at once."""
    workers = await all_running(stack)
    tokens = await sign_up(client, "crowd", CROWD)
    post_id = (await do(client, "POST", "/posts", {"content": "like me"}, token=tokens[0]))["id"]

    liked = await react_at_once(client, post_id, tokens, "like")
    assert {200} == {outcome.status for outcome in liked}
    assert {"like"} == {outcome.body["mine"] for outcome in liked}
    assert CROWD == max(outcome.body["likes"] for outcome in liked)
    assert ({"like": CROWD, "dislike": 0},) * 2 == counted(mongod, post_id)

    disliked = await react_at_once(client, post_id, tokens[::2], "dislike")
    assert {200} == {outcome.status for outcome in disliked}
    assert {"dislike"} == {outcome.body["mine"] for outcome in disliked}
    assert ({"like": CROWD // 2, "dislike": CROWD // 2},) * 2 == counted(mongod, post_id)

    # Now with workers dying: what was acknowledged counts, what was not may count, and both agree.
    reacting = asyncio.create_task(react_at_once(client, post_id, tokens, "dislike"))
    for worker in workers[:2]:
        await asyncio.sleep(0.1)
        os.kill(worker, signal.SIGKILL)
    outcomes = await reacting
    await all_running(stack)
    counts, reactions = counted(mongod, post_id)
    assert counts == reactions
    assert {0, 200, 502, 503, 504} >= {outcome.status for outcome in outcomes}
    acknowledged = sum(outcome.status == 200 for outcome in outcomes)
    assert acknowledged <= counts["dislike"] <= CROWD
    assert CROWD == counts["like"] + counts["dislike"]
    shown = await do(client, "GET", f"/posts/{post_id}", token=tokens[1])
    assert counts == {"like": shown["likes"], "dislike": shown["dislikes"]}


async def test_walking_the_feed_misses_nothing_while_others_write(stack: RunningStack, client: ClientSession) -> None:
    """Over all workers: what was there before the walk and stays is seen once."""
    await all_running(stack)
    reader, writer = await sign_up(client, "walker", 2)
    stayed = [(await do(client, "POST", "/posts", {"content": str(one)}, token=reader))["id"] for one in range(60)]
    writing = asyncio.Event()

    async def write() -> None:
        while not writing.is_set():
            post = await do(client, "POST", "/posts", {"content": "new"}, token=writer)
            await do(client, "DELETE", f"/posts/{post['id']}", token=writer)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(write())
        seen: list[str] = []
        cursor = ""
        while True:
            feed = await do(client, "GET", f"/posts?limit=7{cursor}", token=reader)
            seen += [post["id"] for post in feed["posts"]]
            if feed["next_cursor"] is None:
                break
            cursor = f"&cursor={feed['next_cursor']}"
        writing.set()

    assert len(seen) == len(set(seen))
    assert stayed[::-1] == [one for one in seen if one in set(stayed)]
