"""Limits on credentials: counted before the attempt, shared by all servers, disclosing no account."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.database.failure_limits import FailureLimit, failures_counted
from src.core.database.limits import Limit, LimitReached
from src.core.database.mongo import Mongo
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
    """After the last wrong password, the right one is rejected as well, with Retry-After."""
    api = await serve(**RATES)
    await api.register("ann")

    answers = [await attempt(api, name, "wrong") for name in (username, username.upper(), *[username] * 4)]
    right = await attempt(api, username, PASSWORD)

    assert [401] * 5 + [429] == [status for status, _ in answers]
    assert 429 == right[0]
    assert 800 < int(right[1]) <= 900


async def test_parallel_attempts_on_two_servers_share_one_budget(serve: Serve) -> None:
    """No more attempts are checked than allowed, however many arrive at once."""
    one = await serve(**RATES)
    other = await serve(**RATES, mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    await one.register("ann")

    answers = await asyncio.gather(*(attempt(api, "ann", "wrong") for api in (one, other) for _ in range(20)))

    assert [401] * 5 + [429] * 35 == sorted(status for status, _ in answers)


async def test_the_lock_ends_by_itself(serve: Serve) -> None:
    """After Retry-After, the right password signs in."""
    api = await serve(**RATES)
    await api.register("ann")
    for _ in range(6):
        await attempt(api, "ann", "wrong")

    await api.mongo.collection("limits").update_many({}, {"$set": {"expireAt": utc_now() - timedelta(seconds=1)}})

    assert 200 == (await attempt(api, "ann", PASSWORD))[0]


async def test_right_passwords_do_not_count(serve: Serve) -> None:
    """Frequent logins lock no user out, and do not reduce the count of wrong attempts."""
    api = await serve(**RATES)
    await api.register("ann")

    statuses = [(await attempt(api, "ann", password))[0] for password in ("wrong", *[PASSWORD] * 8, *["wrong"] * 5)]

    assert [401, *[200] * 8, *[401] * 4, 429] == statuses


async def test_one_address_cannot_try_many_accounts(serve: Serve) -> None:
    """Wrong passwords for any account count for the client's address, too."""
    api = await serve(**{**RATES, "limit_login_address": "3 per 1 hour"})
    await api.register("ann")

    assert [401, 401, 401, 429] == [(await attempt(api, f"user-{number}", "wrong"))[0] for number in range(4)]
    assert 429 == (await attempt(api, "ann", PASSWORD))[0]


async def test_an_address_is_what_nginx_says_and_an_ipv6_network_is_one(serve: Serve) -> None:
    """Behind nginx its header counts; IPv6 by /64, and IPv4-mapped addresses as IPv4."""
    api = await serve(behind_nginx=True, **{**RATES, "limit_register": "1 per 1 hour"})

    async def register(username: str, address: str) -> int:
        body = {"username": username, "password": PASSWORD}
        async with api.client.post("/register", json=body, headers={"X-Real-IP": address}) as answer:
            return answer.status

    addresses = ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"]
    statuses = [await register(f"user-{number}", address) for number, address in enumerate(addresses)]

    assert [201, 429, 201, 201, 429, 201] == statuses


async def test_registration_is_limited_for_each_address(serve: Serve) -> None:
    """Taken names count too, so a client cannot probe many of them."""
    api = await serve(rate_limits="on", limit_register="3 per 1 hour")

    answers = [
        await api.call("POST", "/register", {"username": username, "password": PASSWORD})
        for username in ("ann", "ann", "bob", "cid")
    ]

    assert [201, 409, 201, 429] == [status for status, _ in answers]
    assert "limit_reached" == answers[3][1]["code"]


async def test_an_open_session_is_no_way_around_the_limit(serve: Serve) -> None:
    """Guesses with a stolen access token are limited too, and do not lock out the owner."""
    api = await serve(**RATES)
    token = await api.sign_up("ann")

    async def guess(method: str, path: str, body: Any) -> int:
        return (await api.call(method, path, body, token=token))[0]

    guesses = [("DELETE", "/me", {"password": "wrong"}), ("PUT", "/me/password", {"current": "x", "new": PASSWORD})]
    statuses = [await guess(*guesses[number % 2]) for number in range(6)]

    assert [403] * 5 + [429] == statuses
    assert 200 == (await attempt(api, "ann", PASSWORD))[0]


async def attempt_from(api: Api, address: str, password: str) -> int:
    """Try to sign in as ann from an address and return the status."""
    body = {"username": "ann", "password": password}
    async with api.client.post("/login", json=body, headers={"X-Real-IP": address}) as answer:
        return answer.status


async def test_wrong_passwords_lock_out_only_their_own_network(serve: Serve) -> None:
    """The owner, at another address, can still sign in and change the password."""
    api = await serve(behind_nginx=True, **RATES)
    await api.register("ann")
    token = (await api.login("ann"))["access_token"]
    strangers = [await attempt_from(api, "192.0.2.1", "wrong") for _ in range(6)]

    assert [401] * 5 + [429] == strangers
    assert 200 == await attempt_from(api, "192.0.2.2", PASSWORD)
    change = {"current": PASSWORD, "new": "another good password"}
    assert 204 == (await api.call("PUT", "/me/password", change, token=token))[0]


async def test_many_networks_together_guess_at_one_account_ten_times_as_often(serve: Serve) -> None:
    """Over all networks an account has 10 times the limit; then its owner can still change the password."""
    api = await serve(behind_nginx=True, **{**RATES, "limit_login_account": "2 per 15 minutes"})
    await api.register("ann")
    token = (await api.login("ann"))["access_token"]

    statuses = [await attempt_from(api, f"192.0.2.{number // 2}", "wrong") for number in range(22)]

    assert [401] * 20 + [429] * 2 == statuses
    assert 429 == await attempt_from(api, "192.0.2.99", PASSWORD)
    change = {"current": PASSWORD, "new": "another good password"}
    assert 204 == (await api.call("PUT", "/me/password", change, token=token))[0]


async def counted(api: Api) -> list[int]:
    """Return the counts of all limits, including attempts being checked."""
    documents = await api.mongo.collection("limits").find({}).to_list(None)
    return [document["count"] + len(document.get("places", [])) for document in documents]


@pytest.mark.parametrize("times", [30, 200])
async def test_right_passwords_in_parallel_are_never_refused(serve: Serve, times: int) -> None:
    """Many programs sign in at once on 2 servers: no 429, and nothing is counted."""
    rates = {**RATES, "limit_login_address": "50 per 15 minutes", "limit_register": "1000 per 1 hour"}
    patient = {"hashing_wait": 60, "request_timeout": 60, "hashing_queue": 1000}
    one = await serve(**rates, **patient)
    other = await serve(**rates, **patient, mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    await one.register("ann")
    await one.mongo.collection("limits").delete_many({})

    answers = await asyncio.gather(*(attempt((one, other)[number % 2], "ann", PASSWORD) for number in range(times)))

    assert {200} == {status for status, _ in answers}
    assert [0, 0, 0] == await counted(one)


async def test_right_passwords_beside_wrong_ones_wait_their_turn(serve: Serve) -> None:
    """While wrong attempts hold leases, right ones in parallel sign in as long as the limit is not reached."""
    api = await serve(**RATES, hashing_wait=60, request_timeout=60)
    await api.register("ann")

    answers = await asyncio.gather(
        *(attempt(api, "ann", "wrong" if number % 8 == 0 else PASSWORD) for number in range(32))
    )

    assert [200] * 28 + [401] * 4 == sorted(status for status, _ in answers)


@pytest.fixture
async def limit(api: Api, mongo_url: str) -> Any:
    """A limit of 1, with its own connection."""
    mongo = Mongo(api.settings, mongo_url)
    yield Limit(mongo, ring_of(api), "tries", 1, timedelta(hours=1)), mongo
    await mongo.close()


def ring_of(api: Api) -> KeyRing:
    """Return the keys of a server."""
    assert api.settings.keys is not None
    return KeyRing.parse(api.settings.keys.get_secret_value())


def failure_limit(api: Api, mongo: Mongo, *, lease: float = 60, patience: float = 60) -> FailureLimit:
    """Return a limit of 1 failure."""
    return FailureLimit(
        mongo,
        ring_of(api),
        "failures",
        1,
        timedelta(hours=1),
        patience=patience,
        lease=timedelta(seconds=lease),
    )


@pytest.mark.parametrize("error", [Unavailable, LimitReached, asyncio.CancelledError])
async def test_unchecked_attempts_do_not_count(api: Api, error: type[BaseException]) -> None:
    """A full queue, another limit and a timeout do not count; a wrong password does."""
    tries = failure_limit(api, api.mongo)

    for raised in (error, error, Forbidden):
        with pytest.raises(raised):
            async with failures_counted(tries.of("ann")):
                raise raised
    with pytest.raises(LimitReached):
        async with failures_counted(tries.of("ann")):
            raise AssertionError("it was tried")
    await tries.forget("ann")
    async with failures_counted(tries.of("ann")):
        pass


async def test_forgiving_a_group_forgives_each_of_its_members(api: Api) -> None:
    """All networks of an account are reset with it, but no other account."""
    tries = failure_limit(api, api.mongo)
    for subject in (("ann", "one"), ("ann", "two"), ("bob", "one")):
        with pytest.raises(Forbidden):
            async with failures_counted(tries.of(*subject)):
                raise Forbidden

    await tries.forget("ann")

    for network in ("one", "two"):
        async with failures_counted(tries.of("ann", network)):
            pass
    with pytest.raises(LimitReached):
        async with failures_counted(tries.of("bob", "one")):
            raise AssertionError("it was tried")


async def test_an_attempt_waits_for_the_last_lease(api: Api) -> None:
    """It proceeds if the attempt that holds it succeeds, and is rejected if that fails."""
    tries = failure_limit(api, api.mongo)
    for outcome, expected in ((None, type(None)), (Forbidden(), LimitReached)):
        go_on = asyncio.Event()

        async def hold(go_on: asyncio.Event = go_on, outcome: Exception | None = outcome) -> None:
            async with failures_counted(tries.of("ann")):
                await go_on.wait()
                if outcome:
                    raise outcome

        async def follow() -> None:
            async with failures_counted(tries.of("ann")):
                pass

        first = asyncio.create_task(hold())
        while [1] != await counted(api):
            await asyncio.sleep(0.01)
        second = asyncio.create_task(follow())
        done, _ = await asyncio.wait([second], timeout=0.2)

        assert not done
        go_on.set()
        results = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(outcome), expected] == [type(result) for result in results]


async def test_an_abandoned_lease_expires(api: Api) -> None:
    """The attempt of a dead process blocks others until its lease expires; until then they get Retry-After."""
    tries = failure_limit(api, api.mongo, patience=0.1)
    await tries.enter(tries.of("ann").key, ObjectId())

    async def follow() -> None:
        async with failures_counted(tries.of("ann")):
            raise AssertionError("it was tried")

    outcomes = await asyncio.gather(*(follow() for _ in range(3)), return_exceptions=True)

    assert [Unavailable] * 3 == [type(outcome) for outcome in outcomes]
    past = {"$set": {"places.0.at": utc_now() - timedelta(seconds=61)}}
    await api.mongo.collection("limits").update_many({}, past)

    async with failures_counted(tries.of("ann")):
        pass


async def test_a_cancelled_attempt_releases_its_lease(api: Api) -> None:
    """Whenever a request times out, its lease is released at once."""
    tries = failure_limit(api, api.mongo)

    async def hold() -> None:
        async with failures_counted(tries.of("ann")):
            await asyncio.Event().wait()

    for turns in range(12):
        task = asyncio.create_task(hold())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert [0] == (await counted(api) or [0])


async def test_a_late_release_does_not_affect_the_next_window(limit: tuple[Limit, Mongo]) -> None:
    """An attempt that outlasts its window counts only there."""
    tries, mongo = limit
    window = await tries.spend("ann")
    await mongo.collection("limits").update_many({}, {"$set": {"expireAt": utc_now() - timedelta(seconds=1)}})

    await tries.give_back("ann", window=window)

    await tries.spend("ann")
    await tries.give_back("ann", window=window)
    with pytest.raises(LimitReached):
        await tries.spend("ann")


async def test_without_mongodb_attempts_are_rejected(limit: tuple[Limit, Mongo], api: Api) -> None:
    """A limiter that cannot count rejects everything."""
    amounts, mongo = limit
    tries = failure_limit(api, mongo)
    await mongo.close()

    with pytest.raises(Unavailable):
        await amounts.spend("ann")
    with pytest.raises(Unavailable):
        async with failures_counted(tries.of("ann")):
            raise AssertionError("it was tried")


async def test_the_counters_contain_no_names(serve: Serve) -> None:
    """Neither names nor addresses are in the database, and the counters expire."""
    api = await serve(**RATES)
    await attempt(api, "findable-name", "wrong")

    documents = await api.mongo.collection("limits").find({}).to_list(None)

    assert 3 == len(documents)
    assert "findable-name" not in str(documents)
    assert "127.0.0.1" not in str(documents)
    indexes = await api.mongo.collection("limits").index_information()
    assert 0 == indexes["expireAt"]["expireAfterSeconds"]


async def test_a_refused_amount_is_not_counted(api: Api) -> None:
    """In parallel, an amount is either counted in full or rejected and not counted at all."""
    amounts = Limit(api.mongo, ring_of(api), "bytes", 100, timedelta(hours=1))
    begun = time.monotonic()

    outcomes = await asyncio.gather(*(amounts.spend("ann", 30) for _ in range(20)), return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, LimitReached)]

    assert 17 == len(refused)
    # Less than the hour by the seconds that have passed.
    least = 3600 - int(time.monotonic() - begun)
    assert all(least <= int(outcome.headers["Retry-After"]) <= 3600 for outcome in refused)
    window = await amounts.spend("ann", 10)
    with pytest.raises(LimitReached):
        await amounts.spend("ann")
    await amounts.give_back("ann", 30, window=window)
    assert window == await amounts.spend("ann", 30)
