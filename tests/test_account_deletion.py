"""Deleting an account is complete, even if a process dies in the middle."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from src.accounts.api_tokens import ApiTokenStore
from src.accounts.deletion import AccountDeletion
from src.accounts.sessions import SessionStore
from src.accounts.users import UserStore
from src.core.audit import NOT_RECORDED
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.database.group_commit import group_commit
from src.errors import Unavailable

from .conftest import PASSWORD, Api, seconds_accepted
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]


async def test_a_deleted_account_is_gone_and_its_name_is_free(api: Api) -> None:
    """Its tokens are rejected, its documents are deleted, and its name can be registered again."""
    session = await api.login() if await api.register() else None
    assert session is not None
    token = session["access_token"]
    await api.call("POST", "/tokens", {"name": "ci", "scopes": ["echo"]}, token=token)

    status, _ = await api.call("DELETE", "/me", {"password": PASSWORD}, token=token)

    assert 204 == status
    assert 401 == (await api.call("GET", "/me", token=token))[0]
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": session["refresh_token"]}))[0]
    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": PASSWORD}))[0]
    for collection in ("users", "api_tokens"):
        assert 0 == await api.mongo.collection(collection).count_documents({})
    await api.register("ANN")


@pytest.fixture
async def api(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A server that does not finish interrupted deletions by itself, as others do every minute."""

    async def do_nothing(_: AccountDeletion) -> None:
        pass

    with monkeypatch.context() as patch:
        patch.setattr(AccountDeletion, "watch", do_nothing)
        return await serve()


@pytest.fixture
def job(api: Api) -> AccountDeletion:
    """The deletion job as another process runs it, on the server's database."""
    assert api.settings.keys is not None
    ring = KeyRing.parse(api.settings.keys.get_secret_value())
    batching = group_commit(max_batch=10, max_queue=10)
    users, tokens = UserStore(api.mongo, ring, batching), ApiTokenStore(api.mongo, ring, batching)
    return AccountDeletion(users, SessionStore(api.mongo, ring, life=api.settings.ttl_limit), tokens, NOT_RECORDED)


async def test_a_deletion_that_fails_half_way_is_finished_later(api: Api, job: AccountDeletion) -> None:
    """The user is gone at once for all requests; the name is free once everything is deleted."""
    user_id = bytes.fromhex((await api.register())["user_id"])
    token = (await api.login())["access_token"]
    erased: list[bytes] = []

    async def eraser(user: bytes) -> None:
        erased.append(user)
        if len(erased) == 1:
            raise Unavailable

    job.add(eraser)
    with pytest.raises(Unavailable):
        await job.delete(user_id)

    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": PASSWORD}))[0]
    assert 409 == (await api.call("POST", "/register", {"username": "ann", "password": PASSWORD}))[0]

    async def use() -> int:
        return (await api.call("GET", "/me", token=token))[0]

    assert await seconds_accepted(use) < 2
    await job.resume()
    assert [user_id, user_id] == erased
    assert 0 == await api.mongo.collection("users").count_documents({})
    await api.register()


async def test_a_server_finishes_interrupted_deletions_at_start(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A starting server finds the unfinished job of a killed process by the mark on the user."""
    api = await serve()
    session = await api.sign_up()
    await api.call("POST", "/tokens", {"name": "ci", "scopes": ["echo"]}, token=session)
    users = api.mongo.collection("users")
    await users.update_one({}, {"$set": {"deleting_at": utc_now()}})

    monkeypatch.setattr("src.accounts.deletion.INTERVAL", 10 * PATIENCE)
    await serve(mongo_database=api.settings.mongo_database, keys=api.settings.keys)

    async with asyncio.timeout(PATIENCE):
        while await users.count_documents({}):
            await asyncio.sleep(0.01)
    assert 0 == await api.mongo.collection("api_tokens").count_documents({})


async def test_a_sign_in_during_the_deletion_leaves_no_session(api: Api, job: AccountDeletion) -> None:
    """Logins that race with the deletion fail, or their session ends with the account."""
    user_id = bytes.fromhex((await api.register())["user_id"])

    async def login() -> tuple[int, str]:
        status, answer = await api.call("POST", "/login", {"username": "ann", "password": PASSWORD})
        return status, answer.get("refresh_token", "")

    attempts = [asyncio.create_task(login()) for _ in range(20)]
    await asyncio.wait(attempts, return_when=asyncio.FIRST_COMPLETED)
    await job.delete(user_id)
    answers = await asyncio.gather(*attempts)

    assert {200, 401} >= {status for status, _ in answers}
    for status, token in answers:
        if status == 200:
            assert 401 == (await api.call("POST", "/refresh", {"refresh_token": token}))[0]
    assert 0 == await api.mongo.collection("sessions").count_documents({"ended_at": None})
