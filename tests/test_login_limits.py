"""Limits on credentials: counted before the try, shared by all servers, and silent about who has an account."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from src.core.clock import utc_now
from src.core.keys import KeyRing
from src.core.limits import Limit, LimitReached, failures_counted
from src.core.mongo import Mongo
from src.errors import Forbidden, Unavailable

from .conftest import PASSWORD, Api

Serve = Callable[..., Awaitable[Api]]
RATES = {"rate_limits": "on", "limit_login_account": "5 per 15 minutes", "limit_login_address": "1000 per 1 hour"}


async def attempt(api: Api, username: str, password: str) -> tuple[int, str]:
    """Try to sign in and return the status and Retry-After."""
    async with api.client.post("/login", json={"username": username, "password": password}) as answer:
        return answer.status, answer.headers.get("Retry-After", "")


@pytest.mark.parametrize("username", ["ann", "nobody"])
async def test_a_locked_account_stays_locked_whether_or_not_it_exists(serve: Serve, username: str) -> None:
    """After the last wrong password the right one is refused as well, with the time to wait."""
    api = await serve(**RATES)
    await api.register("ann")

    answers = [await attempt(api, name, "wrong") for name in (username, username.upper(), *[username] * 4)]
    right = await attempt(api, username, PASSWORD)

    assert [401] * 5 + [429] == [status for status, _ in answers]
    assert 429 == right[0]
    assert 800 < int(right[1]) <= 900


async def test_parallel_tries_on_two_servers_share_one_budget(serve: Serve) -> None:
    """However many come at once, no more are checked than are allowed."""
    one = await serve(**RATES)
    other = await serve(**RATES, mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    await one.register("ann")

    answers = await asyncio.gather(*(attempt(api, "ann", "wrong") for api in (one, other) for _ in range(20)))

    assert [401] * 5 + [429] * 35 == sorted(status for status, _ in answers)


async def test_the_lock_ends_by_itself(serve: Serve) -> None:
    """When the time that was told is over, the right password signs in."""
    api = await serve(**RATES)
    await api.register("ann")
    for _ in range(6):
        await attempt(api, "ann", "wrong")

    await api.mongo.collection("limits").update_many({}, {"$set": {"expireAt": utc_now() - timedelta(seconds=1)}})

    assert 200 == (await attempt(api, "ann", PASSWORD))[0]


async def test_right_passwords_do_not_count(serve: Serve) -> None:
    """Signing in often locks nobody out, and does not give wrong tries back either."""
    api = await serve(**RATES)
    await api.register("ann")

    statuses = [(await attempt(api, "ann", password))[0] for password in ("wrong", *[PASSWORD] * 8, *["wrong"] * 5)]

    assert [401, *[200] * 8, *[401] * 4, 429] == statuses


async def test_one_address_cannot_try_many_accounts(serve: Serve) -> None:
    """Wrong passwords count for the client's address as well, whatever the account."""
    api = await serve(**{**RATES, "limit_login_address": "3 per 1 hour"})
    await api.register("ann")

    assert [401, 401, 401, 429] == [(await attempt(api, f"user-{number}", "wrong"))[0] for number in range(4)]
    assert 429 == (await attempt(api, "ann", PASSWORD))[0]


async def test_an_address_is_what_nginx_says_and_an_ipv6_network_is_one(serve: Serve) -> None:
    """Behind nginx its header counts; of IPv6 the /64, and IPv4 in IPv6 clothes as itself."""
    api = await serve(behind_nginx=True, **{**RATES, "limit_register": "1 per 1 hour"})

    async def register(username: str, address: str) -> int:
        body = {"username": username, "password": PASSWORD}
        async with api.client.post("/register", json=body, headers={"X-Real-IP": address}) as answer:
            return answer.status

    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"]
    statuses = [await register(f"user-{number}", address) for number, address in enumerate(addresses)]

    assert [201, 429, 201, 201, 429, 201] == statuses


async def test_registration_is_limited_for_each_address(serve: Serve) -> None:
    """Names that are taken count too, so nobody can ask for many of them."""
    api = await serve(rate_limits="on", limit_register="3 per 1 hour")

    answers = [
        await api.call("POST", "/register", {"username": username, "password": PASSWORD})
        for username in ("ann", "ann", "bob", "cid")
    ]

    assert [201, 409, 201, 429] == [status for status, _ in answers]
    assert "limit_reached" == answers[3][1]["code"]


async def test_an_open_session_is_no_way_around_the_limit(serve: Serve) -> None:
    """Guesses at the password count for the account wherever they are made."""
    api = await serve(**RATES)
    token = await api.sign_up("ann")

    async def guess(method: str, path: str, body: Any) -> int:
        return (await api.call(method, path, body, token=token))[0]

    guesses = [("DELETE", "/me", {"password": "wrong"}), ("PUT", "/me/password", {"current": "x", "new": PASSWORD})]
    statuses = [await guess(*guesses[number % 2]) for number in range(6)]

    assert [403] * 5 + [429] == statuses
    assert 429 == (await attempt(api, "ann", PASSWORD))[0]


@pytest.fixture
async def limit(api: Api, mongo_url: str) -> Any:
    """A limit of one, on a connection of its own."""
    assert api.settings.keys is not None
    ring = KeyRing.parse(api.settings.keys.get_secret_value())
    mongo = Mongo(api.settings, mongo_url)
    yield Limit(mongo, ring, "tries", 1, timedelta(hours=1)), mongo
    await mongo.close()


async def test_what_could_not_be_tried_does_not_count(limit: tuple[Limit, Mongo]) -> None:
    """A full queue costs no try; a wrong password does."""
    tries, _ = limit

    for error in (Unavailable, Unavailable, Forbidden):
        with pytest.raises(error):
            async with failures_counted((tries, "ann")):
                raise error
    with pytest.raises(LimitReached):
        await tries.spend("ann")
    await tries.forget("ann")
    await tries.spend("ann")


async def test_what_is_given_back_late_does_not_lift_the_next_limit(limit: tuple[Limit, Mongo]) -> None:
    """A try that outlasts its window was counted there and nowhere else."""
    tries, mongo = limit
    window = await tries.spend("ann")
    await mongo.collection("limits").update_many({}, {"$set": {"expireAt": utc_now() - timedelta(seconds=1)}})

    await tries.give_back("ann", window=window)

    await tries.spend("ann")
    await tries.give_back("ann", window=window)
    with pytest.raises(LimitReached):
        await tries.spend("ann")


async def test_without_mongodb_nobody_tries_anything(limit: tuple[Limit, Mongo]) -> None:
    """A limiter that cannot count lets nothing through."""
    tries, mongo = limit
    await mongo.close()

    with pytest.raises(Unavailable):
        async with failures_counted((tries, "ann")):
            raise AssertionError("it was tried")


async def test_the_counters_name_nobody(serve: Serve) -> None:
    """Neither names nor addresses stand in the database, and the counters are swept."""
    api = await serve(**RATES)
    await attempt(api, "findable-name", "wrong")

    documents = await api.mongo.collection("limits").find({}).to_list(None)

    assert 2 == len(documents)
    assert "findable-name" not in str(documents)
    assert "127.0.0.1" not in str(documents)
    indexes = await api.mongo.collection("limits").index_information()
    assert 0 == indexes["expireAt"]["expireAfterSeconds"]


async def test_a_refused_amount_is_not_counted(limit: tuple[Limit, Mongo], api: Api, mongo_url: str) -> None:
    """In parallel an amount is either counted in full or refused and not counted at all."""
    _, mongo = limit
    assert api.settings.keys is not None
    ring = KeyRing.parse(api.settings.keys.get_secret_value())
    amounts = Limit(mongo, ring, "bytes", 100, timedelta(hours=1))

    outcomes = await asyncio.gather(*(amounts.spend("ann", 30) for _ in range(20)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LimitReached)]

    assert 17 == len(refused)
    assert {"3600"} == {outcome.headers["Retry-After"] for outcome in refused}
    window = await amounts.spend("ann", 10)
    with pytest.raises(LimitReached):
        await amounts.spend("ann")
    await amounts.give_back("ann", 30, window=window)
    assert window == await amounts.spend("ann", 30)
