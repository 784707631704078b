"""API tokens: shown once, valid for their scopes until they expire or are deleted."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.accounts.api_tokens import hash_api_token, is_api_token, new_api_token
from src.core.clock import utc_now

from .conftest import Api, seconds_accepted
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]


async def create(api: Api, session: str, **fields: Any) -> tuple[int, Any]:
    """Create a token."""
    return await api.call("POST", "/tokens", {"name": "ci", "scopes": ["secrets"], **fields}, token=session)


@pytest.fixture
async def closed(serve: Serve) -> Api:
    """A server that requires a user or a token with the scope to create secrets."""
    return await serve(anonymous_create=False)


async def generate(api: Api, token: str) -> int:
    """Create a secret with a token and return the status."""
    return (await api.call("POST", "/generate", {"secret": "s"}, token=token))[0]


async def until_refused(api: Api, token: str) -> None:
    """Use a token until it stops working, within 2 seconds."""
    assert await seconds_accepted(lambda: generate(api, token)) < 2


async def test_a_token_is_shown_only_once(api: Api) -> None:
    """The list has everything except the token itself."""
    session = await api.sign_up()

    status, created = await create(api, session, name="bäckup ☕", scopes=["posts", "echo"], expires_in_days=3)
    _, listed = await api.call("GET", "/tokens", token=session)

    assert 201 == status
    assert re.fullmatch(r"sp_[0-9a-f]{72}", created.pop("token"))
    assert [created] == listed["tokens"]
    assert ("bäckup ☕", ["echo", "posts"], None) == (created["name"], created["scopes"], created["last_used_at"])
    expires_in = datetime.fromisoformat(created["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=2, hours=23) < expires_in <= timedelta(days=3)


async def test_a_whole_number_may_be_written_with_a_point(api: Api) -> None:
    """In JSON, 2.0 is the number 2."""
    session = await api.sign_up()

    status, created = await create(api, session, expires_in_days=2.0)

    assert 201 == status
    assert created["expires_at"]


@pytest.mark.parametrize(
    "fields",
    [
        *({"name": name} for name in ("", "x" * 65, None)),
        *({"scopes": scopes} for scopes in ([], ["all"], ["echo", "echo"], "echo", None)),
        *({"expires_in_days": days} for days in (0, -1, 3651, 1.5)),
        {"user_id": "0"},
    ],
)
async def test_a_malformed_token_request_is_refused(api: Api, fields: dict[str, Any]) -> None:
    """The response names the field, and no token is created."""
    session = await api.sign_up()

    status, problem = await create(api, session, **fields)

    assert (400, next(iter(fields))) == (status, problem["errors"][0]["field"].split(".")[0])
    assert {"tokens": []} == (await api.call("GET", "/tokens", token=session))[1]


async def test_a_deleted_token_stops_working(closed: Api) -> None:
    """It stops within 2 seconds, and only its owner can delete it."""
    ann, bob = await closed.sign_up("ann"), await closed.sign_up("bob")
    _, created = await create(closed, ann)
    path = f"/tokens/{created['id']}"
    assert 201 == await generate(closed, created["token"])

    assert 404 == (await closed.call("DELETE", path, token=bob))[0]
    assert 201 == await generate(closed, created["token"])
    assert 204 == (await closed.call("DELETE", path, token=ann))[0]

    await until_refused(closed, created["token"])
    assert 404 == (await closed.call("DELETE", path, token=ann))[0]
    assert 404 == (await closed.call("DELETE", "/tokens/nonsense", token=ann))[0]


async def test_a_token_expires(closed: Api) -> None:
    """Its expiry is sealed in it: the field of the TTL index can only shorten it."""
    session = await closed.sign_up()
    _, created = await create(closed, session, expires_in_days=1)
    tokens = closed.mongo.collection("api_tokens")
    document = await tokens.find_one({})

    assert document["expires_at"] == datetime.fromisoformat(created["expires_at"])
    await tokens.update_one({}, {"$set": {"expires_at": utc_now() + timedelta(days=1000)}})
    assert created["expires_at"] == (await closed.call("GET", "/tokens", token=session))[1]["tokens"][0]["expires_at"]
    indexes = await tokens.index_information()
    assert 0 == indexes["expires_at"]["expireAfterSeconds"]


async def test_an_expired_token_is_refused_before_the_database_sweeps_it(closed: Api) -> None:
    """The query checks the expiry; the TTL index only cleans up."""
    session = await closed.sign_up()
    _, created = await create(closed, session, expires_in_days=1)

    closed.mongo.clock.adjust(-timedelta(days=1, seconds=1))
    session = (await closed.login())["access_token"]

    assert 401 == await generate(closed, created["token"])
    assert {"tokens": []} == (await closed.call("GET", "/tokens", token=session))[1]


async def test_an_api_token_has_no_access_to_the_account(api: Api) -> None:
    """It cannot create tokens, end sessions or read the account."""
    session = await api.sign_up()
    _, created = await create(api, session, scopes=["secrets", "messages", "posts", "gather", "echo"])

    for method, path in (("GET", "/me"), ("GET", "/sessions"), ("POST", "/logout"), ("GET", "/tokens")):
        status, problem = await api.call(method, path, token=created["token"])
        assert (403, "insufficient_scope") == (status, problem["code"])


async def test_the_last_use_is_recorded(closed: Api) -> None:
    """It appears in the list soon after the token was used."""
    session = await closed.sign_up()
    _, created = await create(closed, session)
    await generate(closed, created["token"])

    async with asyncio.timeout(PATIENCE):
        while not (await closed.call("GET", "/tokens", token=session))[1]["tokens"][0]["last_used_at"]:
            await asyncio.sleep(0.02)


async def test_the_number_of_tokens_is_limited(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token above the limit is rejected; deleting one frees a slot."""
    monkeypatch.setattr("src.accounts.service.MOST_TOKENS", 2)
    session = await api.sign_up()

    statuses = [(await create(api, session))[0] for _ in range(3)]
    _, listed = await api.call("GET", "/tokens", token=session)
    await api.call("DELETE", f"/tokens/{listed['tokens'][0]['id']}", token=session)

    assert [201, 201, 409] == statuses
    assert 201 == (await create(api, session))[0]


async def test_requests_in_parallel_make_no_more_tokens_than_a_user_may_have(serve: Serve) -> None:
    """Of 120 parallel requests on 2 servers, exactly as many succeed as slots are free."""
    one = await serve()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    session = await one.sign_up()
    for _ in range(3):
        await create(one, session)
    tokens = one.mongo.collection("api_tokens")
    # One from an earlier release, and an expired one that is not deleted yet.
    _, expired, last = await tokens.find({}).to_list(None)
    # First from all, because their slots are random and no two tokens have the same.
    await tokens.update_many({}, {"$unset": {"slot": ""}})
    await tokens.update_one({"_id": last["_id"]}, {"$set": {"slot": 49}})
    past = utc_now() - timedelta(seconds=1)
    await tokens.update_one({"_id": expired["_id"]}, {"$set": {"slot": 0, "expires_at": past}})

    answers = await asyncio.gather(*(create((one, other)[number % 2], session) for number in range(120)))

    assert [201] * 48 + [409] * 72 == sorted(status for status, _ in answers)
    assert 50 == len((await one.call("GET", "/tokens", token=session))[1]["tokens"])


async def test_an_unreadable_token_does_not_count(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whose tokens were sealed under a lost key can create the full number again."""
    monkeypatch.setattr("src.accounts.service.MOST_TOKENS", 2)
    session = await api.sign_up()
    for _ in range(2):
        await create(api, session)
    await api.mongo.collection("api_tokens").update_many({}, {"$set": {"key_id": "lost"}})

    assert [201, 201, 409] == [(await create(api, session))[0] for _ in range(3)]


@pytest.mark.parametrize("field", ["envelope", "key_id"])
async def test_write_access_to_the_database_extends_no_token(closed: Api, field: str) -> None:
    """A token with another token's envelope, or with a forged hash, is rejected."""
    session = await closed.sign_up()
    _, narrow = await create(closed, session, scopes=["echo"])
    _, wide = await create(closed, session, scopes=["secrets"])
    tokens = closed.mongo.collection("api_tokens")
    wide_document = await tokens.find_one({"_id": bytes.fromhex(wide["id"])})
    mine = new_api_token()

    changed = wide_document[field] if field == "envelope" else "elsewhere"
    await tokens.update_one({"_id": bytes.fromhex(narrow["id"])}, {"$set": {field: changed}})
    await tokens.update_one({"_id": bytes.fromhex(wide["id"])}, {"$set": {"hash": hash_api_token(mine)}})

    assert [401, 401] == [await generate(closed, token) for token in (narrow["token"], mine)]


def test_a_token_has_a_checksum() -> None:
    """Any single wrong digit is detected without a database query."""
    token = new_api_token()

    assert is_api_token(token)
    for place in range(3, len(token)):
        changed = token[:place] + ("0" if token[place] != "0" else "1") + token[place + 1 :]
        assert not is_api_token(changed)


@given(st.text() | st.from_regex(r"\Asp_[0-9a-f]{70,74}\Z"))
def test_no_other_text_is_an_api_token(text: str) -> None:
    """Parsing any text returns None and raises nothing; 1 in 2^32 has a valid checksum by chance."""
    assert not is_api_token(text)


async def test_a_401_names_the_accepted_credentials(api: Api) -> None:
    """An access token, an API token with its scope, or a sender's token; without a token and with an invalid one."""
    document = (await api.send("GET", "/openapi.json")).json()
    guarded = {
        (method.upper(), re.sub("{.*}", "0" * 32, path)): operation["security"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    }
    bodies = {"/echo": {"str": "s"}, "/message": {"message_type": "MESSAGE", "message": "m"}}
    assert {("POST", "/echo"), ("POST", "/message"), ("GET", "/posts"), ("GET", "/me")} <= guarded.keys()

    for (method, path), [scheme, *others] in guarded.items():
        scopes, is_optional = scheme["bearer"], {} in others
        for token in ("bad", "sp_bad") if is_optional else ("", "bad", "sp_bad"):
            status, answer = await api.call(method, path, bodies.get(path), token=token)

            assert 401 == status, (method, path)
            wanted = "POST /authenticate" if path == "/message" else "POST /login"
            assert wanted in answer["detail"]
            assert (f"API token with the scope {scopes[0]}" if scopes else "no API token") in answer["detail"]
