"""Passwords of secrets and their budget of attempts."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId

from src.core.clock import utc_now
from src.core.crypto.sealing import derive_phrase_key
from src.sealed import service
from src.sealed.attempts import LEASE
from src.sealed.items import Item
from src.sealed.store import ItemStore

from .conftest import Api
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Block hashing until this is set, so that a test can act meanwhile."""
    proceed = threading.Event()

    def derive(*arguments: Any) -> bytes:
        assert proceed.wait(PATIENCE)
        return derive_phrase_key(*arguments)

    monkeypatch.setattr(service, "derive_phrase_key", derive)
    yield proceed
    # A failed test must not leave a blocked thread.
    proceed.set()


async def under_way(api: Api) -> None:
    """Wait until a password is being checked."""
    while not (await api.items.find_one())["checks"]:
        await asyncio.sleep(0.01)


async def test_a_missing_phrase_costs_no_attempt(api: Api) -> None:
    """Requests without a password are rejected and do not count."""
    created = await api.create(phrase="p", max_attempts=2)

    for fields in ({}, {"phrase": None}, {"phrase": ""}) * 2:
        status, problem = await api.open(created["secret_key"], **fields)
        assert (403, "phrase_required") == (status, problem["code"])
    status, problem = await api.open(created["secret_key"], phrase="wrong")

    assert (403, 1) == (status, problem["attempts_left"])


async def test_wrong_phrases_count_down_and_destroy(api: Api) -> None:
    """Each error has the number of attempts left; after the last, the secret is gone for the right password, too."""
    created = await api.create(phrase="right", max_attempts=3)

    answers = [await api.open(created["secret_key"], phrase="wrong") for _ in range(3)]
    after = await api.open(created["secret_key"], phrase="right")

    assert [(403, 2), (403, 1), (403, 0)] == [(status, problem["attempts_left"]) for status, problem in answers]
    assert (404, "Key not found") == (after[0], after[1]["detail"])
    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")
    assert ("locked", 3, 0) == (receipt["state"], receipt["failed_attempts"], receipt["opens_left"])


async def test_a_right_phrase_costs_no_attempt(api: Api) -> None:
    """A secret with several openings opens each time with a budget of 1."""
    created = await api.create(phrase="right", max_attempts=1, max_opens=3)

    answers = [await api.open(created["secret_key"], phrase="right") for _ in range(3)]

    assert [(200, 2), (200, 1), (200, 0)] == [(status, answer["opens_left"]) for status, answer in answers]


async def test_guesses_in_parallel_never_exceed_the_budget(serve: Serve, api: Api) -> None:
    """Of 40 parallel wrong guesses on 2 servers, at most 5 are checked; the others get 429 or 404."""
    other = await serve(mongo_database=api.settings.mongo_database, keys=api.settings.keys)
    created = await api.create(phrase="right", max_attempts=5)

    answers = await asyncio.gather(
        *((api, other)[n % 2].open(created["secret_key"], phrase=f"guess {n}") for n in range(40))
    )

    statuses = Counter(status for status, _ in answers)
    assert 5 == statuses[403]
    assert {403, 404, 429} >= set(statuses)
    assert "locked" == await api.state(created["receipt_key"])


async def test_a_guess_above_the_leases_gets_429(api: Api) -> None:
    """If all remaining attempts are being checked, another gets 429 and does not count; the budget is restored."""
    created = await api.create(phrase="right", max_attempts=1)
    check = {"id": ObjectId(), "at": utc_now()}
    await api.items.update_one({}, {"$set": {"checks": [check]}})

    answer = await api.send("POST", f"/secrets/{created['secret_key']}", b'{"phrase": "right"}')
    await api.items.update_one({}, {"$set": {"checks": []}})

    assert (429, "1") == (answer.status, answer.headers["Retry-After"])
    assert 200 == (await api.open(created["secret_key"], phrase="right"))[0]


async def test_a_reader_just_after_the_last_opening_finds_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A majority may not have the opening yet, and a look-up then returns the item as before: 404, not 429."""
    found, seen = ItemStore.find, list[Item | None]()

    async def find_as_before(store: ItemStore, item_id: bytes) -> Item | None:
        seen.append(await found(store, item_id))
        return seen[0]

    monkeypatch.setattr(ItemStore, "find", find_as_before)
    key = (await api.create(phrase="right"))["secret_key"]
    required, _ = await api.open(key)
    opened, _ = await api.open(key, phrase="right")
    late, problem = await api.open(key, phrase="right")

    assert (403, 200, 404) == (required, opened, late)
    assert "Key not found" == problem["Error"]
    assert [True, False] == [item is not None for item in seen]


async def test_a_dead_workers_attempt_expires(api: Api) -> None:
    """It is returned after its lease: a crash locks no reader out."""
    created = await api.create(phrase="right", max_attempts=1)
    check = {"id": ObjectId(), "at": utc_now() - LEASE - timedelta(seconds=1)}
    await api.items.update_one({}, {"$set": {"checks": [check]}})

    assert 200 == (await api.open(created["secret_key"], phrase="right"))[0]


@pytest.mark.parametrize("phrase", ["right", "wrong"])
async def test_an_expired_attempt_discloses_nothing(api: Api, held: threading.Event, phrase: str) -> None:
    """A worker whose lease has expired tells neither that the password was right nor that it was wrong."""
    created = await api.create(phrase="right", max_attempts=1)
    opening = asyncio.create_task(api.open(created["secret_key"], phrase=phrase))
    await under_way(api)
    await api.items.update_one({}, {"$set": {"checks": []}})
    held.set()

    status, _ = await opening

    assert 503 == status
    assert 200 == (await api.open(created["secret_key"], phrase="right"))[0]


@pytest.mark.parametrize("phrase", ["right", "wrong"])
async def test_a_phrase_for_a_burned_secret_finds_nothing(api: Api, held: threading.Event, phrase: str) -> None:
    """A burn takes precedence over a password that is being checked."""
    created = await api.create(phrase="right")
    opening = asyncio.create_task(api.open(created["secret_key"], phrase=phrase))
    await under_way(api)
    assert 204 == (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]
    held.set()

    status, _ = await opening

    assert 404 == status


async def test_a_full_hashing_queue_spends_no_attempt(serve: Serve) -> None:
    """It gets 503 with Retry-After, and the attempt does not count."""
    api = await serve(hashing_threads=1, hashing_queue=1, argon2_memory_kib=65_536)
    created = await api.create(phrase="right", max_attempts=100)

    answers = await asyncio.gather(*(api.open(created["secret_key"], phrase="wrong") for _ in range(30)))

    statuses = Counter(status for status, _ in answers)
    assert {403, 503} == set(statuses)
    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")
    assert statuses[403] == receipt["failed_attempts"]
    assert 200 == (await api.open(created["secret_key"], phrase="right"))[0]


async def test_a_phrase_is_the_same_from_every_keyboard(api: Api) -> None:
    """Composed and decomposed characters are the same password; case and spaces matter."""
    created = await api.create(phrase="caf\u00e9 \u1e9b\u0323")

    assert 403 == (await api.open(created["secret_key"], phrase="Caf\u00e9 \u1e9b\u0323"))[0]
    assert 200 == (await api.open(created["secret_key"], phrase="cafe\u0301 \u017f\u0323\u0307"))[0]


async def test_a_phrase_keeps_its_cost(serve: Serve, api: Api) -> None:
    """A secret opens after the operator has changed the cost of Argon2id."""
    created = await api.create(phrase="right")
    stronger = await serve(
        mongo_database=api.settings.mongo_database, keys=api.settings.keys, argon2_memory_kib=32_768, argon2_passes=3
    )

    assert 200 == (await stronger.open(created["secret_key"], phrase="right"))[0]


async def test_a_phrase_that_is_not_asked_for_is_ignored(api: Api) -> None:
    """A secret without a password opens with any password in the request."""
    created = await api.create()

    assert 200 == (await api.open(created["secret_key"], phrase="anything"))[0]


async def test_a_missing_server_key_spends_no_attempt(api: Api) -> None:
    """An item under a missing key is unavailable, and the request never counts as a guess."""
    created = await api.create(phrase="right", max_attempts=1)
    document = await api.items.find_one({})
    await api.items.update_one({}, {"$set": {"key_id": "elsewhere"}})

    status, problem = await api.open(created["secret_key"], phrase="right")

    assert (503, "unavailable") == (status, problem["code"])
    await api.items.update_one({}, {"$set": {"key_id": document["key_id"]}})
    assert 200 == (await api.open(created["secret_key"], phrase="right"))[0]
