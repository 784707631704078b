"""Check values of keys: a process whose key ring lacks a key in use writes nothing and says which key it lacks."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from pydantic import SecretStr

from src.app import MONGO, build_app
from src.core.crypto.keys import KeyRing, ensure_key_file, new_key
from src.core.database.mongo import Mongo, Unfit
from src.core.database.prerequisites import COLLECTION, KeyChecks
from src.settings import Settings, SettingsError

from .commands import Operator
from .conftest import PASSWORD, Api
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]
MakeSettings = Callable[..., Settings]


@asynccontextmanager
async def started(api: Api, url: str, make_settings: MakeSettings, keys: str) -> AsyncIterator[Api]:
    """Start another process on a server's database with another key ring, and wait for the result of its key check."""
    settings = make_settings(keys=SecretStr(keys), mongo_database=api.settings.mongo_database)
    app = await build_app(settings, url)
    async with TestClient(TestServer(app)) as client, asyncio.timeout(PATIENCE):
        while app[MONGO].unfit is None and not app[MONGO].is_set_up:
            await asyncio.sleep(0.01)
        yield Api(client, app[MONGO], settings)


def ring_of(api: Api) -> str:
    """Return the key ring of a server as text."""
    assert api.settings.keys is not None
    return api.settings.keys.get_secret_value()


async def documents(api: Api) -> dict[str, list[Any]]:
    """Return all stored documents."""
    names = await api.mongo.database.list_collection_names()
    return {name: await api.mongo.collection(name).find().sort("_id", 1).to_list(None) for name in sorted(names)}


async def test_a_process_with_another_ring_writes_nothing(
    serve: Serve, mongo_url: str, make_settings: MakeSettings
) -> None:
    """It is not ready, names the missing key's id, rejects every request, and leaves the database unchanged."""
    api = await serve()
    await api.register("ann")
    await api.store_events()
    before = await documents(api)
    key_id = ring_of(api).partition(":")[0]

    async with started(api, mongo_url, make_settings, new_key()) as other:
        ready, problem = await other.call("GET", "/readyz")
        refused = {
            (await other.call(method, path, body))[0]
            for method, path, body in [
                ("POST", "/generate", {"secret": "s"}),
                ("POST", "/register", {"username": "ann", "password": PASSWORD}),
                ("POST", "/identify", {"message_type": "IDENTIFY", "username": "ann"}),
                ("POST", "/delete", None),
            ]
        }
        alive, _ = await other.call("GET", "/healthz")

    assert (503, 200, {503}) == (ready, alive, refused)
    assert key_id in problem["detail"]
    assert before == await documents(api)


async def test_a_ring_with_every_key_in_use_is_ready(serve: Serve, mongo_url: str, make_settings: MakeSettings) -> None:
    """A new key in front of the old one is stored beside it, and both processes work."""
    api = await serve()
    created = await api.create("kept")

    async with started(api, mongo_url, make_settings, f"{new_key()},{ring_of(api)}") as other:
        assert 200 == (await other.call("GET", "/readyz"))[0]
        assert (200, "kept") == (
            (opened := await other.open(created["secret_key"]))[0],
            opened[1]["secret"],
        )

    assert 2 == await api.mongo.collection(COLLECTION).count_documents({})


async def test_another_key_under_the_same_id_is_refused(
    serve: Serve, mongo_url: str, make_settings: MakeSettings
) -> None:
    """The check value distinguishes two keys with the same id."""
    api = await serve()
    key_id = ring_of(api).partition(":")[0]

    async with started(api, mongo_url, make_settings, f"{key_id}:{new_key().partition(':')[2]}") as other:
        assert 503 == (await other.call("GET", "/readyz"))[0]


async def test_data_of_an_older_version_is_checked_by_the_keys_that_it_names(
    serve: Serve, mongo_url: str, make_settings: MakeSettings
) -> None:
    """Without check values, a ring that lacks a stored user's key is rejected; the right ring's is stored."""
    api = await serve()
    await api.register("ann")
    await api.mongo.collection(COLLECTION).delete_many({})

    async with started(api, mongo_url, make_settings, new_key()) as other:
        assert 503 == (await other.call("GET", "/readyz"))[0]
        assert 0 == await api.mongo.collection(COLLECTION).count_documents({})
    async with started(api, mongo_url, make_settings, ring_of(api)) as same:
        assert 200 == (await same.call("GET", "/readyz"))[0]
        assert 1 == await api.mongo.collection(COLLECTION).count_documents({})


async def test_of_two_rings_that_start_at_once_one_is_refused_at_least(serve: Serve) -> None:
    """Each stores its key before it reads, so at least one sees the other."""
    api = await serve()
    for _ in range(10):
        await api.mongo.collection(COLLECTION).delete_many({})
        outcomes = await asyncio.gather(
            *(KeyChecks(api.mongo, KeyRing.parse(new_key())).require() for _ in range(2)), return_exceptions=True
        )

        assert any(isinstance(outcome, Unfit) for outcome in outcomes)


async def test_a_running_process_notices_a_key_that_another_one_brings(
    serve: Serve, mongo_url: str, make_settings: MakeSettings
) -> None:
    """It rejects requests while its ring lacks the key, and resumes once the key is gone."""
    api = await serve()
    checks = KeyChecks(api.mongo, KeyRing.parse(ring_of(api)))
    new = new_key()
    async with started(api, mongo_url, make_settings, f"{new},{ring_of(api)}"):
        await api.mongo.check(checks.require)
        refused = await api.call("POST", "/generate", {"secret": "s"})
        await checks.retire_all_but([])
        await api.mongo.check(checks.require)

    assert 503 == refused[0]
    assert 201 == (await api.call("POST", "/generate", {"secret": "s"}))[0]


async def test_an_item_under_a_missing_key_is_not_called_damaged(serve: Serve) -> None:
    """It answers 503, because it opens once the key is back, and does not count the opening."""
    api = await serve()
    created = await api.create("kept")
    await api.items.update_one({}, {"$set": {"key_id": "lost"}})

    status, problem = await api.open(created["secret_key"])

    assert (503, "unavailable") == (status, problem["code"])
    await api.items.update_one({}, {"$set": {"key_id": ring_of(api).partition(":")[0]}})
    assert 200 == (await api.open(created["secret_key"]))[0]


def test_no_key_is_created_for_data_whose_key_file_is_gone(tmp_path: Path) -> None:
    """If the embedded database exists without its key file, the start fails, and no file is created."""
    data = tmp_path / "mongo" / "db"
    data.mkdir(parents=True)
    (data / "WiredTiger").touch()

    with pytest.raises(SettingsError, match="Restore the file"):
        ensure_key_file(tmp_path / "keys")

    assert not (tmp_path / "keys").exists()


async def test_commands_refuse_another_ring(serve: Serve, mongo_url: str) -> None:
    """`manage users list` with another ring exits with 1 and names the missing key."""
    api = await serve()
    operator = Operator.of(api.settings, mongo_url, SEALPOST_KEYS=new_key())

    ended = await operator.run("users", "list")

    assert (1, "") == (ended.code, ended.stdout)
    assert ring_of(api).partition(":")[0] in ended.stderr


async def test_resealing_retires_a_key_once_nothing_needs_it(
    serve: Serve, mongo_url: str, make_settings: MakeSettings
) -> None:
    """A ring without the old key is rejected before `keys reseal` and accepted after it."""
    api = await serve()
    old, new = ring_of(api), new_key()
    await api.register("ann")
    # The audit's event is sealed with the old key, and must not be stored after the resealing.
    await api.store_events()
    async with started(api, mongo_url, make_settings, f"{new},{old}") as rotated:
        async with started(api, mongo_url, make_settings, new) as early:
            assert 503 == (await early.call("GET", "/readyz"))[0]

        assert 0 == (await Operator.of(rotated.settings, mongo_url).run("keys", "reseal")).code
    async with started(api, mongo_url, make_settings, new) as later:
        assert 200 == (await later.call("GET", "/readyz"))[0]


async def test_nothing_is_written_before_the_keys_are_checked(
    mongo_url: str, make_settings: MakeSettings, own_database: str
) -> None:
    """A process that must not use the database creates no index and no collection."""
    mongo = Mongo(make_settings(mongo_database=own_database), mongo_url)

    async def refuse() -> None:
        raise Unfit("not with this ring")

    setting_up = asyncio.create_task(mongo.set_up({"items": []}, refuse))
    async with asyncio.timeout(PATIENCE):
        while mongo.unfit is None:
            await asyncio.sleep(0.01)
    setting_up.cancel()

    assert [] == await mongo.database.list_collection_names()
    await mongo.close()
