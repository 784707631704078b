"""The operator's commands for posts, their keys, and expired data."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta

from src.core.clock import utc_now
from src.core.crypto.keys import new_key
from src.core.database.purging import expiry_fields
from src.storage import INDEXES

from .commands import Operator
from .conftest import Api
from .test_posts import publish

Serve = Callable[..., Awaitable[Api]]


async def test_posts_are_counted_and_deleted(api: Api, mongo_url: str) -> None:
    """All, by author or by id, with their reactions; missing ones are reported."""
    operator = Operator.of(api.settings, mongo_url)
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    first, *_ = [await publish(api, ann) for _ in range(3)]
    await publish(api, bob)
    await api.call("PUT", f"/posts/{first['id']}/like", token=bob)

    assert ["4\n", "3\n"] == [
        (await operator.run("posts", "count", *arguments)).stdout for arguments in ((), ("--author", "ANN"))
    ]
    ended = await operator.run("posts", "delete", first["id"])
    assert (0, "sealpost: deleted 1 post\n") == (ended.code, ended.stderr)
    assert 404 == (await api.call("GET", f"/posts/{first['id']}", token=ann))[0]
    assert 0 == await api.mongo.collection("reactions").count_documents({})
    ended = await operator.run("posts", "delete", first["id"])
    assert 1 == ended.code
    assert f"there is no post {first['id']}" in ended.stderr
    ended = await operator.run("posts", "delete", "--author", "ann")
    assert (0, "sealpost: deleted 2 posts\n") == (ended.code, ended.stderr)
    assert "1\n" == (await operator.run("posts", "count")).stdout


async def test_an_invalid_command_for_posts_is_reported(api: Api, mongo_url: str) -> None:
    """It deletes nothing."""
    operator = Operator.of(api.settings, mongo_url)
    token = await api.sign_up("ann")
    await publish(api, token)

    wrong = (("delete",), ("delete", "00" * 16, "--author", "ann"), ("delete", "nonsense"), ("frobnicate",))
    for arguments in wrong:
        assert 2 == (await operator.run("posts", *arguments)).code
    ended = await operator.run("posts", "delete", "--author", "nobody")
    assert (1, "sealpost: there is no user nobody\n") == (ended.code, ended.stderr)
    assert 1 == await api.mongo.collection("posts").count_documents({})


async def test_posts_move_to_a_new_key(serve: Serve, mongo_url: str) -> None:
    """Resealed posts are readable without the old key; until then, the old key is reported as needed."""
    old, new = new_key(), new_key()
    before = await serve(keys=old)
    token = await before.sign_up("ann")
    post = await publish(before, token, "words", title="title")
    # The audit's events are sealed with the old key, and must not be stored after the resealing.
    await before.store_events()
    both = await serve(keys=f"{new},{old}", mongo_database=before.settings.mongo_database)
    operator = Operator.of(both.settings, mongo_url)

    uses = [json.loads(line) for line in (await operator.run("keys", "list", "--json")).stdout.splitlines()]
    assert (0, 1) == tuple(use["posts"] for use in uses)
    assert 0 == (await operator.run("keys", "reseal")).code

    after = await serve(keys=new, mongo_database=before.settings.mongo_database)
    token = (await after.login("ann"))["access_token"]
    assert (200, post) == await after.call("GET", f"/posts/{post['id']}", token=token)


async def test_expired_data_is_purged(serve: Serve, own_database: str, mongo_url: str) -> None:
    """From every collection with an expiry, and nothing else."""
    api = await serve(mongo_database=own_database)
    past, future = utc_now() - timedelta(seconds=1), utc_now() + timedelta(days=1)
    fields = expiry_fields(INDEXES)
    for name, field in fields.items():
        # MongoDB deletes expired documents once a minute, and may do so right here.
        await api.mongo.collection(name).drop_indexes()
        await api.mongo.collection(name).delete_many({})  # the record of this process
        for moment in (past, future):
            await api.mongo.collection(name).insert_one({field: moment})

    ended = await Operator.of(api.settings, mongo_url).run("purge")

    accounts = {"users", "sessions", "api_tokens", "invitations", "passkey_challenges", "sign_in_codes", "audit"}
    sealed, files = {"items", "held", "kept_items"}, {"uploads", "chunks"}
    posts, gatherer = {"posts", "reactions"}, {"gathered", "gathered_states"}
    assert {"limits", "processes", *sealed, *files, *accounts, *posts, *gatherer} == set(fields)
    assert 0 == ended.code
    assert dict.fromkeys(fields, "1") == dict(line.split() for line in ended.stdout.splitlines()[1:])
    for name in fields:
        assert 1 == await api.mongo.collection(name).count_documents({})
