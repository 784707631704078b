"""Sessions: refresh tokens work once, every worker learns of ended sessions, and database writes create none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.accounts.access_tokens import RefreshToken
from src.accounts.sessions import EndedSessions, SessionStore
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.crypto.sealing import encode
from src.core.database.mongo import Mongo
from src.core.metrics import NOTHING
from src.errors import Unavailable

from .conftest import Api, seconds_accepted
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]


async def refresh(api: Api, token: str) -> tuple[int, Any]:
    """Send a refresh token."""
    return await api.call("POST", "/refresh", {"refresh_token": token})


async def test_a_refresh_gives_a_new_pair_of_the_same_session(api: Api) -> None:
    """The session continues with new tokens, any number of times."""
    await api.register()
    pair = await api.login()

    for _ in range(3):
        status, following = await refresh(api, pair["refresh_token"])
        assert 200 == status
        assert pair["refresh_token"] != following["refresh_token"]
        pair = following

    _, listed = await api.call("GET", "/sessions", token=pair["access_token"])
    assert [True] == [session["current"] for session in listed["sessions"]]


@pytest.mark.parametrize("first", ["thief", "owner"])
async def test_a_stolen_refresh_token_signs_out_thief_and_owner(api: Api, first: str) -> None:
    """The second use ends the session for both, including the tokens of the first."""
    await api.register()
    stolen = (await api.login())["refresh_token"]

    status, pair = await refresh(api, stolen)
    assert 200 == status
    second, problem = await refresh(api, stolen)

    assert (401, "invalid_refresh_token") == (second, problem["code"])
    assert 401 == (await refresh(api, pair["refresh_token"]))[0]

    async def use() -> int:
        return (await api.call("GET", "/me", token=pair["access_token"]))[0]

    assert await seconds_accepted(use) < 2


async def test_of_two_refreshes_at_once_neither_leaves_a_session(serve: Serve) -> None:
    """One of them is a reuse; 30 races on 2 servers."""
    one = await serve()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    await one.register()
    for _ in range(30):
        token = (await one.login())["refresh_token"]

        answers = await asyncio.gather(*(refresh(api, token) for api in (one, other)))

        assert [200, 401] == sorted(status for status, _ in answers)
        [pair] = [answer for status, answer in answers if status == 200]
        assert 401 == (await refresh(one, pair["refresh_token"]))[0]


async def test_a_forged_token_ends_no_session(api: Api) -> None:
    """Knowing a session's id is not enough to end it."""
    await api.register()
    pair = await api.login()
    token = RefreshToken.parse(pair["refresh_token"])
    assert token is not None

    for made_up in (
        RefreshToken(token.session_id, b"f" * 16, token.secret),
        RefreshToken(token.session_id, b"f" * 16, b"s" * 32),
        RefreshToken.new(),
    ):
        assert 401 == (await refresh(api, made_up.text))[0]
    assert 200 == (await refresh(api, pair["refresh_token"]))[0]


@given(st.binary(min_size=64, max_size=64))
def test_a_refresh_token_reads_as_it_was_written(value: bytes) -> None:
    """All of its bytes are read back."""
    token = RefreshToken(value[:16], value[16:32], value[32:])

    assert token == RefreshToken.parse(token.text)
    assert 89 == len(token.text)


@given(st.text() | st.binary(max_size=70).map(lambda value: "sr_" + encode(value)).filter(lambda text: len(text) != 89))
def test_no_other_text_is_a_refresh_token(text: str) -> None:
    """Parsing any text returns None and raises nothing."""
    assert None is RefreshToken.parse(text)


async def test_a_session_expires_without_a_refresh(serve: Serve) -> None:
    """Its refresh token stops working, and its access token does not outlive it."""
    api = await serve(session_ttl=60)
    await api.register()
    pair = await api.login()

    assert 0 < pair["expires_in"] <= 60
    await api.mongo.collection("sessions").update_one({}, {"$set": {"expires_at": utc_now()}})
    assert 401 == (await refresh(api, pair["refresh_token"]))[0]


async def test_an_end_on_one_server_is_known_on_another_within_two_seconds(serve: Serve) -> None:
    """Its access token was valid there until then."""
    one = await serve()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    token = await one.sign_up()
    assert 200 == (await other.call("GET", "/me", token=token))[0]

    await one.call("POST", "/logout", token=token)

    async def use() -> int:
        return (await other.call("GET", "/me", token=token))[0]

    assert await seconds_accepted(use) < 2


async def test_no_command_is_sent_for_a_request_of_a_known_session(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the worker's data on ended sessions is current, it checks a token without MongoDB."""
    for name in ("STALE", "INTERVAL"):
        monkeypatch.setattr(f"src.accounts.sessions.REVOCATION_{name}", 10 * PATIENCE)
    token = await api.sign_up()
    _, created = await api.call("GET", "/sessions", token=token)
    path = f"/sessions/{created['sessions'][0]['id'][:-1]}"  # an invalid id, so the response needs no database either

    async def queries() -> int:
        top = await api.mongo.database.client.admin.command("top")
        namespaces = (f"{api.settings.mongo_database}.{name}" for name in ("sessions", "users"))
        return sum(top["totals"][namespace]["queries"]["count"] for namespace in namespaces)

    before = await queries()
    for _ in range(200):
        assert 404 == (await api.call("DELETE", path, token=token))[0]

    assert 20 > await queries() - before


@pytest.fixture
async def ended(api: Api, mongo_url: str) -> AsyncIterator[tuple[EndedSessions, Mongo]]:
    """Another worker's data on ended sessions, with its own connection."""
    assert api.settings.keys is not None
    mongo = Mongo(api.settings, mongo_url)
    store = SessionStore(mongo, KeyRing.parse(api.settings.keys.get_secret_value()), life=timedelta(days=1))
    yield EndedSessions(store, NOTHING), mongo
    await mongo.close()


async def test_without_data_on_ended_sessions_tokens_are_rejected(
    api: Api, ended: tuple[EndedSessions, Mongo], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old data is updated before use; if MongoDB does not answer, no token is accepted."""
    known, mongo = ended
    monkeypatch.setattr("src.accounts.sessions.REVOCATION_STALE", 10 * PATIENCE)
    token = await api.sign_up()
    await api.call("POST", "/logout", token=token)
    document = await api.mongo.collection("sessions").find_one({})

    assert (True, False) == (await known.contain(document["_id"]), await known.contain(b"other"))
    await mongo.close()
    assert False is await known.contain(b"other")
    monkeypatch.setattr("src.accounts.sessions.REVOCATION_STALE", -1)
    with pytest.raises(Unavailable):
        await known.contain(b"other")


async def test_an_end_is_learned_whatever_the_time_of_its_mark(api: Api, ended: tuple[EndedSessions, Mongo]) -> None:
    """After a failover to a primary whose clock is minutes behind, a worker learns of each ended session."""
    known, _ = ended
    tokens = [await api.sign_up("ann"), await api.sign_up("eve")]
    sessions = api.mongo.collection("sessions")
    await api.call("POST", "/logout", token=tokens[0])
    first = await sessions.find_one({"ended_at": {"$ne": None}})
    assert await known.contain(first["_id"])

    await api.call("POST", "/logout", token=tokens[1])
    behind = first["ended_at"] - timedelta(minutes=8)
    second = await sessions.find_one_and_update({"_id": {"$ne": first["_id"]}}, {"$set": {"ended_at": behind}})
    known._polled_at = float("-inf")

    assert await known.contain(second["_id"])


async def test_ends_are_forgotten_when_no_access_token_lives(ended: tuple[EndedSessions, Mongo]) -> None:
    """A worker that runs for a year does not keep a year of logouts in memory."""
    known, _ = ended
    known.add(b"old")
    known._known[b"old"] -= 3600
    known.add(b"new")
    await known.contain(b"new")

    assert [b"new"] == list(known._known)


@pytest.mark.parametrize("field", ["envelope", "secret_hash", "user_id"])
async def test_write_access_to_the_database_makes_no_session(api: Api, field: str) -> None:
    """A session moved to another user, copied or modified gives no tokens of the victim."""
    await api.register("ann")
    await api.register("eve")
    victim, attacker = await api.login("ann"), await api.login("eve")
    sessions = api.mongo.collection("sessions")
    ids = [token.session_id for text in (victim, attacker) if (token := RefreshToken.parse(text["refresh_token"]))]
    [of_ann, of_eve] = [await sessions.find_one({"_id": session_id}) for session_id in ids]

    await sessions.update_one({"_id": ids[1]}, {"$set": {field: of_ann[field]}})
    status, _ = await refresh(api, attacker["refresh_token"])

    assert 401 == status
    await sessions.replace_one({"_id": ids[0]}, {**of_eve, "_id": ids[0], "user_id": of_ann["user_id"]})
    moved = RefreshToken.parse(attacker["refresh_token"])
    assert moved is not None
    assert 401 == (await refresh(api, RefreshToken(ids[0], moved.family, moved.secret).text))[0]


async def test_marks_are_swept_when_no_access_token_lives(api: Api) -> None:
    """The TTL index deletes the mark of an ended session after its last access token."""
    token = await api.sign_up()
    await api.call("POST", "/logout", token=token)

    document = await api.mongo.collection("sessions").find_one({})

    assert timedelta(minutes=10) < document["delete_at"] - document["ended_at"] < timedelta(minutes=15)
    indexes = await api.mongo.collection("sessions").index_information()
    assert 0 == indexes["delete_at"]["expireAfterSeconds"]
