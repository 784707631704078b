"""Posts: published, listed, deleted, and removed with their author."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, new_key
from src.core.crypto.sealing import decode, encode
from src.posts.analytics import counting
from src.posts.feed import new_post_id, parse_post_id, read_cursor, write_cursor
from src.posts.store import VISIBLE, older_than, visible

from .conftest import PASSWORD, Api, altered
from .processes import PATIENCE
from .senders import operator_token

Serve = Callable[..., Awaitable[Api]]
RING = KeyRing.parse(new_key())


async def publish(api: Api, token: str, content: str = "content", **fields: Any) -> Any:
    """Publish a post and return the response."""
    status, post = await api.call("POST", "/posts", {"content": content, **fields}, token=token)

    assert 201 == status
    return post


async def walk(
    api: Api, token: str, query: str = "limit=3", between: Callable[[], Awaitable[Any]] | None = None
) -> list[Any]:
    """Return the posts of all pages."""
    posts, cursor = [], ""
    while True:
        status, feed = await api.call("GET", f"/posts?{query}{cursor}", token=token)
        assert 200 == status
        posts += feed["posts"]
        if feed["next_cursor"] is None:
            return posts
        cursor = f"&cursor={feed['next_cursor']}"
        if between:
            await between()


async def test_a_post_is_shown_as_it_was_written(api: Api) -> None:
    """At its own address and in the list, with its author's name and counts."""
    token = await api.sign_up("Ann")

    post = await publish(api, token, "Grüße ☕", title="Títle", ttl={"days": 30})

    assert ("Ann", "Títle", "Grüße ☕", 0, 0, None) == tuple(
        post[name] for name in ("author", "title", "content", "likes", "dislikes", "mine")
    )
    lifetime = datetime.fromisoformat(post["expires_at"]) - datetime.fromisoformat(post["created_at"])
    assert timedelta(days=30) == lifetime
    assert (200, post) == await api.call("GET", f"/posts/{post['id']}", token=token)
    assert {"posts": [post], "next_cursor": None} == (await api.call("GET", "/posts", token=token))[1]


@pytest.mark.parametrize(
    "body",
    [
        *({"content": content} for content in ("", None, 1, "x" * 10_001)),
        *({"content": "c", "title": title} for title in ("", 1, "x" * 201)),
        *({"content": "c", "ttl": ttl} for ttl in ({}, {"days": -1}, {"days": 3651}, 5)),
        {},
        {"content": "c", "likes": 5},
    ],
)
async def test_a_malformed_post_is_refused(api: Api, body: object) -> None:
    """The response names the field, and nothing is published."""
    token = await api.sign_up()

    status, problem = await api.call("POST", "/posts", body, token=token)

    assert (400, "malformed") == (status, problem["code"])
    assert 0 == await api.mongo.collection("posts").count_documents({})


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1&limit=2",
        "page=2",
        "cursor=x",
        "cursor=",
        "cursor=" + "A" * 43,
        "limit=",
    ],
)
async def test_a_malformed_query_is_refused(api: Api, query: str) -> None:
    """The response names the parameter and says what to change."""
    token = await api.sign_up()

    status, problem = await api.call("GET", f"/posts?{query}", token=token)

    assert (400, "malformed") == (status, problem["code"])


async def test_the_feed_has_every_post_once_newest_first(api: Api) -> None:
    """Over several pages and authors, and for one author."""
    tokens = {name: await api.sign_up(name) for name in ("ann", "bob")}
    written = [(name, f"{name} {number}") for number in range(5) for name in tokens]
    for name, content in written:
        await publish(api, tokens[name], content)

    posts = await walk(api, tokens["ann"])
    of_bob = await walk(api, tokens["ann"], "limit=2&author=BOB")

    assert written[::-1] == [(post["author"], post["content"]) for post in posts]
    assert [content for name, content in written[::-1] if name == "bob"] == [post["content"] for post in of_bob]
    assert [] == await walk(api, tokens["ann"], "author=nobody")


async def test_pages_are_stable_while_posts_change(api: Api) -> None:
    """Posts that exist throughout are listed exactly once."""
    token = await api.sign_up()
    old = [(await publish(api, token, f"old {number}"))["id"] for number in range(20)]
    doomed = old[5:8] + old[14:16]

    async def change() -> None:
        await publish(api, token, "new")
        if doomed:
            await api.call("DELETE", f"/posts/{doomed.pop()}", token=token)

    gone = set(doomed)
    seen = [post["id"] for post in await walk(api, token, between=change)]

    assert len(seen) == len(set(seen))
    stayed = [one for one in reversed(old) if one not in gone]
    assert stayed == [one for one in seen if one in stayed]


async def test_a_cursor_is_valid_only_for_its_list(api: Api) -> None:
    """It is rejected with another author, or modified."""
    token = await api.sign_up("ann")
    await api.sign_up("bob")
    for _ in range(2):
        await publish(api, token)
    _, feed = await api.call("GET", "/posts?limit=1&author=ann", token=token)
    cursor = feed["next_cursor"]
    modified = encode(altered(decode(cursor) or b""))

    assert 200 == (await api.call("GET", f"/posts?author=ann&cursor={cursor}", token=token))[0]
    for query in (f"cursor={cursor}", f"author=bob&cursor={cursor}", f"author=ann&cursor={modified}"):
        assert 400 == (await api.call("GET", f"/posts?{query}", token=token))[0]


@given(st.binary(min_size=16, max_size=16), st.none() | st.binary(min_size=16, max_size=16), st.data())
def test_a_modified_cursor_is_rejected(post_id: bytes, author_id: bytes | None, data: st.DataObject) -> None:
    """A cursor is read back unchanged, and is invalid with any other character."""
    cursor = write_cursor(RING, post_id, author_id)

    assert post_id == read_cursor(RING, cursor, author_id)
    place = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:place] + data.draw(st.sampled_from("ABab01-_.ä")) + cursor[place + 1 :]
    assert (post_id if changed == cursor else None) == read_cursor(RING, changed, author_id)
    assert None is read_cursor(KeyRing.parse(new_key()), cursor, author_id)


@given(st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(9000, 1, 1)))
def test_a_post_id_is_a_uuid_that_sorts_by_time(moment: datetime) -> None:
    """Version 7 of RFC 9562: ids sort by millisecond and are unique."""
    now = moment.replace(tzinfo=UTC)
    earlier, one, other = (new_post_id(when) for when in (now - timedelta(milliseconds=1), now, now))

    assert 16 == len(one)
    assert (7, 0b10) == (one[6] >> 4, one[8] >> 6)
    assert earlier < one
    assert one != other
    assert one == parse_post_id(one.hex())


async def test_only_its_author_deletes_a_post(api: Api) -> None:
    """Other users get 403, and a deleted post is not found."""
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    path = f"/posts/{(await publish(api, ann))['id']}"

    status, problem = await api.call("DELETE", path, token=bob)
    assert (403, "not_author") == (status, problem["code"])
    assert 204 == (await api.call("DELETE", path, token=ann))[0]
    for method, suffix in (("DELETE", ""), ("GET", ""), ("PUT", "/like"), ("DELETE", "/reaction")):
        status, problem = await api.call(method, path + suffix, token=ann)
        assert (404, "post_not_found") == (status, problem["code"])
    assert 404 == (await api.call("GET", "/posts/nonsense", token=ann))[0]
    assert "GET,HEAD" == (await api.send("PUT", "/posts/analytics")).headers["Allow"].replace(" ", "")


async def test_an_operator_deletes_any_post(api: Api) -> None:
    """Also a damaged one; with an access token, never with an API token, and not with a damaged account."""
    ann, operator = await api.sign_up("ann"), await operator_token(api)
    posts = [f"/posts/{(await publish(api, ann))['id']}" for _ in range(3)]
    await api.mongo.collection("posts").update_one({"_id": bytes.fromhex(posts[1][7:])}, {"$set": {"likes": -1}})
    _, answer = await api.call("POST", "/tokens", {"name": "posts", "scopes": ["posts"]}, token=operator)

    assert 403 == (await api.call("DELETE", posts[0], token=answer["token"]))[0]
    assert [204, 204] == [(await api.call("DELETE", path, token=operator))[0] for path in posts[:2]]
    assert [posts[2][7:]] == [post["id"] for post in await walk(api, ann)]
    assert 404 == (await api.call("DELETE", posts[0], token=operator))[0]
    await api.mongo.collection("users").update_many({}, {"$set": {"envelope": b"x"}})
    assert 403 == (await api.call("DELETE", posts[2], token=operator))[0]


async def test_an_expired_post_is_gone_before_it_is_deleted(api: Api) -> None:
    """From the list, at its address, for reactions and in the analytics."""
    token = await api.sign_up()
    post = await publish(api, token, ttl={"minutes": 1})
    await api.call("PUT", f"/posts/{post['id']}/like", token=token)
    past = {"$set": {"expires_at": utc_now() - timedelta(seconds=1)}}
    for collection in ("posts", "reactions"):
        indexes = await api.mongo.collection(collection).index_information()
        assert 0 == indexes["expires_at"]["expireAfterSeconds"]
        await api.mongo.collection(collection).update_many({}, past)

    assert [] == await walk(api, token)
    assert 404 == (await api.call("GET", f"/posts/{post['id']}", token=token))[0]
    assert 404 == (await api.call("PUT", f"/posts/{post['id']}/dislike", token=token))[0]
    assert [0, 0, 0] == await today(api, token)


async def today(api: Api, token: str) -> list[int]:
    """Return today's posts, likes and dislikes."""
    day = f"{utc_now():%Y-%m-%d}"
    status, answer = await api.call("GET", f"/posts/analytics?from={day}&to={day}", token=token)

    assert (200, [day]) == (status, [one["date"] for one in answer["days"]])
    return [answer["days"][0][name] for name in ("posts", "likes", "dislikes")]


async def test_analytics_list_every_day(api: Api) -> None:
    """With the posts and reactions of that day in UTC, and zeros on the others."""
    token = await api.sign_up()
    posts = [await publish(api, token, f"{number}") for number in range(4)]
    for number, hour in enumerate(
        ("2024-02-28T23:59:59.999", "2024-02-29T00:00", "2024-02-29T23:59:59.999", "2024-03-02T00:00")
    ):
        moment = datetime.fromisoformat(hour).replace(tzinfo=UTC)
        post_id = bytes.fromhex(posts[number]["id"])
        await api.mongo.collection("posts").update_one({"_id": post_id}, {"$set": {"created_at": moment}})
        await api.call("PUT", f"/posts/{posts[number]['id']}/{'like' if number else 'dislike'}", token=token)
        await api.mongo.collection("reactions").update_one(
            {"_id": {"$gte": post_id + bytes(16), "$lte": post_id + b"\xff" * 16}}, {"$set": {"reacted_at": moment}}
        )

    status, answer = await api.call("GET", "/posts/analytics?from=2024-02-28&to=2024-03-02", token=token)

    assert 200 == status
    assert [
        ("2024-02-28", 1, 0, 1),
        ("2024-02-29", 2, 2, 0),
        ("2024-03-01", 0, 0, 0),
        ("2024-03-02", 1, 1, 0),
    ] == [(day["date"], day["posts"], day["likes"], day["dislikes"]) for day in answer["days"]]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "from=2024-01-01",
        "from=2024-01-02&to=2024-01-01",
        "from=2023-01-01&to=2024-01-02",
        "from=2023-02-29&to=2023-03-01",
        "from=2024-1-1&to=2024-01-02",
        "from=20240101&to=20240102",
        "from=0&to=1",
        "from=2024-01-01&to=2024-01-01T00:00",
        "first=2024-01-01&last=2024-01-02",
    ],
)
async def test_malformed_days_are_refused(api: Api, query: str) -> None:
    """The response names the parameter."""
    token = await api.sign_up()

    status, problem = await api.call("GET", f"/posts/analytics?{query}", token=token)

    assert (400, "malformed") == (status, problem["code"])


async def test_a_year_is_a_list_of_its_days(api: Api) -> None:
    """366 days are allowed, to the ends of the calendar."""
    token = await api.sign_up()

    for query, count in (
        ("from=2024-01-01&to=2024-12-31", 366),
        ("from=0001-01-01&to=0001-01-01", 1),
        ("from=9999-12-30&to=9999-12-31", 2),
    ):
        status, answer = await api.call("GET", f"/posts/analytics?{query}", token=token)
        assert (200, count) == (status, len(answer["days"]))


CHANGES: list[dict[str, Any]] = [
    *({"$unset": {field: 1}} for field in ("likes", "author_id", "created_at", "envelope", "key_id")),
    *({"$set": {field: "5"}} for field in ("likes", "dislikes", "created_at", "envelope", "key_id")),
    {"$set": {"likes": -1}},
    {"$set": {"dislikes": True}},
]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_tampered_post_affects_no_other(api: Api, change: dict[str, Any]) -> None:
    """It answers 410, the feed works, and reactions to its neighbours count."""
    token = await api.sign_up("ann")
    damaged, sound = [await publish(api, token) for _ in range(2)]
    await api.mongo.collection("posts").update_one({"_id": bytes.fromhex(damaged["id"])}, change)

    liking, _ = await asyncio.gather(
        *(api.call("PUT", f"/posts/{post['id']}/like", token=token) for post in (sound, damaged))
    )

    assert (200, {"likes": 1, "dislikes": 0, "mine": "like"}) == liking
    assert 410 == (await api.call("GET", f"/posts/{damaged['id']}", token=token))[0]
    assert [sound["id"]] == [post["id"] for post in await walk(api, token)]
    await api.call("DELETE", "/me", {"password": PASSWORD}, token=token)
    assert 0 == await api.mongo.collection("reactions").count_documents({})


async def test_a_tampered_reaction_does_not_count(api: Api) -> None:
    """It can be replaced or removed."""
    token = await api.sign_up("ann")
    for method, what, expected in (("PUT", "like", (2, "like")), ("DELETE", "reaction", (1, None))):
        path = f"/posts/{(await publish(api, token))['id']}"
        await api.call("PUT", f"{path}/like", token=token)
        await api.mongo.collection("reactions").update_many({}, {"$set": {"kind": "love"}})

        assert None is (await api.call("GET", path, token=token))[1]["mine"]
        status, answer = await api.call(method, f"{path}/{what}", token=token)
        assert (200, *expected) == (status, answer["likes"], answer["mine"])


async def test_an_author_who_cannot_be_read_loses_nothing(api: Api) -> None:
    """Publishing is rejected and deletes nothing: with the key restored, everything is there."""
    token = await api.sign_up("ann")
    post = await publish(api, token)
    users = api.mongo.collection("users")
    document = await users.find_one({})
    await users.update_one({}, {"$set": {"key_id": "elsewhere"}})

    assert 410 == (await api.call("POST", "/posts", {"content": "c"}, token=token))[0]
    assert 200 == (await api.call("PUT", f"/posts/{post['id']}/like", token=token))[0]
    assert (200, {"posts": [], "next_cursor": None}) == await api.call("GET", "/posts?author=ann", token=token)
    await users.replace_one({"_id": document["_id"]}, document)
    assert [(post["id"], 1)] == [(one["id"], one["likes"]) for one in await walk(api, token)]


async def test_a_deleted_user_leaves_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is accepted for a while after: posts and reactions made with it are removed."""
    api = await serve()
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    theirs = await publish(api, bob)
    await api.call("DELETE", "/me", {"password": PASSWORD}, token=ann)

    async def not_known_yet(*_: object) -> bool:
        return False

    monkeypatch.setattr("src.accounts.sessions.EndedSessions.contain", not_known_yet)
    for method, path, body in (
        ("POST", "/posts", {"content": "late"}),
        ("PUT", f"/posts/{theirs['id']}/like", None),
    ):
        assert 401 == (await api.call(method, path, body, token=ann))[0]

    [left] = await walk(api, bob)
    assert (theirs["id"], 0) == (left["id"], left["likes"])
    assert 0 == await api.mongo.collection("reactions").count_documents({})


@pytest.mark.parametrize("field", ["envelope", "author_id", "key_id"])
async def test_a_damaged_post_does_not_spoil_the_feed(api: Api, field: str) -> None:
    """It is reported at its own address, left out of the list, and its author can delete it."""
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    first, damaged, last = [await publish(api, token) for token in (ann, ann, bob)]
    posts = api.mongo.collection("posts")
    other = await posts.find_one({"_id": bytes.fromhex(last["id"])})
    changed = "elsewhere" if field == "key_id" else other[field]
    await posts.update_one({"_id": bytes.fromhex(damaged["id"])}, {"$set": {field: changed}})

    status, problem = await api.call("GET", f"/posts/{damaged['id']}", token=ann)

    assert (410, "damaged") == (status, problem["code"])
    assert [last["id"], first["id"]] == [post["id"] for post in await walk(api, bob, "limit=1")]
    owner, stranger = (bob, ann) if field == "author_id" else (ann, bob)
    assert 403 == (await api.call("DELETE", f"/posts/{damaged['id']}", token=stranger))[0]
    assert 204 == (await api.call("DELETE", f"/posts/{damaged['id']}", token=owner))[0]


async def test_an_account_is_deleted_with_its_posts_and_reactions(api: Api) -> None:
    """The counts of other users' posts are updated."""
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    mine, theirs = await publish(api, ann), await publish(api, bob)
    for token in (ann, bob):
        await api.call("PUT", f"/posts/{theirs['id']}/like", token=token)
        await api.call("PUT", f"/posts/{mine['id']}/dislike", token=token)

    assert 204 == (await api.call("DELETE", "/me", {"password": PASSWORD}, token=ann))[0]

    [left] = await walk(api, bob)
    assert (theirs["id"], 1, 0, "like") == (left["id"], left["likes"], left["dislikes"], left["mine"])
    assert 1 == await api.mongo.collection("posts").count_documents({})
    assert 1 == await api.mongo.collection("reactions").count_documents({})


async def test_a_server_that_starts_finishes_a_deletion(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starting server finds the unfinished deletion of a killed process by the mark on the post."""
    api = await serve()
    token = await api.sign_up()
    post = await publish(api, token)
    await api.call("PUT", f"/posts/{post['id']}/like", token=token)
    await api.mongo.collection("posts").update_one({}, {"$set": {"deleted": True}})
    assert 404 == (await api.call("GET", f"/posts/{post['id']}", token=token))[0]

    monkeypatch.setattr("src.posts.deletion.INTERVAL", 10 * PATIENCE)
    await serve(mongo_database=api.settings.mongo_database, keys=api.settings.keys)

    async with asyncio.timeout(PATIENCE):
        while await api.mongo.collection("posts").count_documents({}):
            await asyncio.sleep(0.01)
    assert 0 == await api.mongo.collection("reactions").count_documents({})


async def test_posts_require_a_user_or_the_scope(api: Api) -> None:
    """An API token for posts is enough, one for secrets is not."""
    session = await api.sign_up()
    tokens = [
        (await api.call("POST", "/tokens", {"name": "x", "scopes": [scope]}, token=session))[1]["token"]
        for scope in ("posts", "secrets")
    ]

    statuses = [(await api.call("GET", "/posts", token=token))[0] for token in ("", session, *tokens)]

    assert [401, 200, 200, 403] == statuses


def winning(plan: Any) -> list[Any]:
    """Return the winning plans in MongoDB's explain output."""
    if isinstance(plan, list):
        return [found for part in plan for found in winning(part)]
    if not isinstance(plan, dict):
        return []
    chosen = [plan["winningPlan"]] if "winningPlan" in plan else []
    return chosen + [found for part in plan.values() for found in winning(part)]


async def test_no_query_scans_a_collection(api: Api) -> None:
    """MongoDB's explain output shows an index for each query of posts."""
    ann = await api.sign_up("ann")
    for number in range(30):
        post = await publish(api, ann, f"{number}")
        await api.call("PUT", f"/posts/{post['id']}/like", token=ann)
    posts, reactions, users = (api.mongo.collection(name) for name in ("posts", "reactions", "users"))
    user_id, post_id, now = (await users.find_one({}))["_id"], bytes.fromhex(post["id"]), utc_now()
    day = (now - timedelta(days=1), now + timedelta(days=1))
    database = api.mongo.database

    async def explained(command: dict[str, Any]) -> Any:
        return await database.command({"explain": command, "verbosity": "executionStats"})

    def find(collection: Any, query: dict[str, Any], **options: Any) -> Any:
        return explained({"find": collection.name, "filter": query, **options})

    def aggregate(collection: Any, pipeline: list[Any]) -> Any:
        return explained({"aggregate": collection.name, "pipeline": pipeline, "cursor": {}})

    def page(before: bytes | None, author_id: bytes | None) -> Any:
        query, index = older_than(before, author_id, now)
        return find(posts, query, hint=index, sort={"_id": -1}, limit=6)

    plans = {
        "feed": await page(None, None),
        "next page": await page(post_id, None),
        "author": await page(post_id, user_id),
        "post": await find(posts, {"_id": {"$in": [post_id]}, **VISIBLE}),
        "marked": await find(posts, {"deleted": True}),
        "of user": await find(reactions, {"user_id": user_id}),
        "mine": await find(reactions, {"_id": {"$in": [post_id + user_id]}}),
        "of post": await find(reactions, {"_id": {"$gte": post_id + bytes(16), "$lte": post_id + b"\xff" * 16}}),
        "posts by day": await aggregate(posts, counting("created_at", *day, among=visible(now), kind="posts")),
        "reactions by day": await aggregate(
            reactions, counting("reacted_at", *day, among={"expires_at": {"$gt": now}}, kind="$kind")
        ),
    }

    for name, plan in plans.items():
        [winner] = winning(plan)
        assert "COLLSCAN" not in str(winner), name
        assert "'SORT'" not in str(winner), name
    for name in ("feed", "next page", "author"):
        assert 6 == plans[name]["executionStats"]["totalDocsExamined"], name
    for name in ("posts by day", "reactions by day"):
        assert "FETCH" not in str(winning(plans[name])), name
