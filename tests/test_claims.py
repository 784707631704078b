"""Openings with an unknown outcome: none is lost, and none counts twice."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect

from src.core.database.group_commit import group_commit
from src.errors import Unavailable
from src.sealed.attempts import AttemptStore
from src.sealed.claims import ClaimStore
from src.sealed.items import Item
from src.sealed.store import ItemStore

from .conftest import Api
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]
BATCHING = group_commit(max_batch=10, max_queue=100)


class Flaky:
    """The real collection, behind a connection that breaks before a claim arrives or before its response returns."""

    def __init__(self, collection: Any, *, carried_out: bool, broken: int = 1) -> None:
        self._collection = collection
        self._carried_out = carried_out
        self.broken = broken
        self.late: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._collection, name)

    async def update_many(self, *arguments: Any) -> Any:
        """Break as often as configured, and record the calls."""
        if self.broken > 0:
            self.broken -= 1
            self.late.append(arguments)
            if self._carried_out:
                await self._collection.update_many(*arguments)
            raise AutoReconnect("connection closed")
        return await self._collection.update_many(*arguments)


async def found(api: Api) -> Item:
    """Return the only item of the database, with its envelope."""
    items = ItemStore(api.mongo, BATCHING)
    item = await items.find((await api.items.find_one())["_id"])
    assert item is not None
    return item


def flaky_claims(api: Api, **how: Any) -> tuple[ClaimStore, Flaky]:
    """Return claims over a connection that breaks."""
    claims = ClaimStore(api.mongo, BATCHING)
    flaky = Flaky(api.items, **how)
    claims._collection = flaky
    return claims, flaky


@pytest.mark.parametrize("carried_out", [True, False])
@pytest.mark.parametrize("fields", [{}, {"max_opens": 3}, {"phrase": "p"}])
async def test_an_opening_without_a_response_is_returned(api: Api, carried_out: bool, fields: dict[str, Any]) -> None:
    """If the connection breaks, the item is afterwards as before, whether or not the claim arrived."""
    created = await api.create("precious", **fields)
    before = await api.items.find_one()
    claims, _ = flaky_claims(api, carried_out=carried_out)

    item = await found(api)
    attempt = await AttemptStore(api.mongo).spend(item.item_id, [item.key_id])

    with pytest.raises(Unavailable):
        await claims.claim(item, attempt.check_id if attempt else None)
    await claims.close()

    assert ("phrase" in fields) == (attempt is not None)
    after = await api.items.find_one()
    assert 1 == len(after.pop("voided_claims"))
    assert [] == after.pop("claims", [])
    assert before == after
    opened = await api.open(created["secret_key"], **({"phrase": "p"} if "phrase" in fields else {}))
    assert (200, "precious") == (opened[0], opened[1]["secret"])


async def test_a_late_claim_is_void(api: Api) -> None:
    """A command that is delivered after the opening was returned claims nothing."""
    created = await api.create()
    claims, flaky = flaky_claims(api, carried_out=False)
    with pytest.raises(Unavailable):
        await claims.claim(await found(api))
    await claims.close()

    result = await api.items.update_many(*flaky.late[0])

    assert 0 == result.matched_count
    assert 200 == (await api.open(created["secret_key"]))[0]


async def test_returning_an_opening_affects_no_other_reader(api: Api) -> None:
    """Another reader's opening of the same item stays spent."""
    created = await api.create(max_opens=2)
    claims, _ = flaky_claims(api, carried_out=True)
    with pytest.raises(Unavailable):
        await claims.claim(await found(api))
    first = await api.open(created["secret_key"])
    await claims.close()

    answers = [first, await api.open(created["secret_key"]), await api.open(created["secret_key"])]

    assert [200, 200, 404] == [status for status, _ in answers]


async def test_a_burned_item_stays_burned(api: Api) -> None:
    """Returning an opening never restores an item that its sender burned."""
    created = await api.create(max_opens=2)
    claims, _ = flaky_claims(api, carried_out=True)
    item = await found(api)
    assert 204 == (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]

    with pytest.raises(Unavailable):
        await claims.claim(item)
    await claims.close()

    document = await api.items.find_one()
    assert ("burned", False) == (document["state"], "envelope" in document)


@pytest.mark.parametrize("fields", [{}, {"phrase": "p"}, {"max_opens": 2}])
async def test_a_burn_wins_over_a_claim_that_is_returned_later(api: Api, fields: dict[str, Any]) -> None:
    """Once a burn is acknowledged, the text never opens, even if an earlier claim ends with an unknown outcome."""
    created = await api.create(**fields)
    if "max_opens" in fields:
        assert 200 == (await api.open(created["secret_key"]))[0]
    claims, flaky = flaky_claims(api, carried_out=True)
    burned = asyncio.Event()

    async def update_one(*arguments: Any) -> Any:
        await burned.wait()
        return await api.items.update_one(*arguments)

    flaky.update_one = update_one  # type: ignore[attr-defined]
    item = await found(api)
    attempt = await AttemptStore(api.mongo).spend(item.item_id, [item.key_id])
    with pytest.raises(Unavailable):
        await claims.claim(item, attempt.check_id if attempt else None)
    assert "opened" == await api.state(created["receipt_key"])

    statuses = [(await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0] for _ in range(2)]
    burned.set()
    await claims.close()

    assert [404, 404] == statuses
    document = await api.items.find_one()
    assert ("burned", False, False) == (document["state"], "envelope" in document, "phrase" in document)
    assert document["delete_at"] > document["expires_at"]
    assert 404 == (await api.open(created["secret_key"], **({"phrase": "p"} if "phrase" in fields else {})))[0]
    receipt = (await api.call("GET", f"/receipts/{created['receipt_key']}"))[1]
    assert ("burned", "max_opens" in fields) == (receipt["state"], receipt.get("opened_at") is not None)
    assert 0 == (await api.items.update_many(*flaky.late[0])).matched_count


async def test_burning_an_opened_item_does_not_change_its_receipt(api: Api) -> None:
    """The text has been read: the burn is too late, and its response says so."""
    created = await api.create()
    await api.open(created["secret_key"])
    path = f"/receipts/{created['receipt_key']}"
    before = await api.call("GET", path)

    assert 404 == (await api.call("DELETE", path))[0]

    assert "opened" == before[1]["state"]
    assert before == await api.call("GET", path)


async def test_returning_is_retried_until_the_database_answers(api: Api) -> None:
    """A long outage delays the return of an opening, but does not prevent it."""
    created = await api.create()
    claims, flaky = flaky_claims(api, carried_out=True)
    failures, is_down = 0, True

    async def update_one(*arguments: Any) -> Any:
        nonlocal failures
        if is_down:
            failures += 1
            raise AutoReconnect("still down")
        return await api.items.update_one(*arguments)

    flaky.update_one = update_one  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        await claims.claim(await found(api))
    assert 404 == (await api.open(created["secret_key"]))[0]
    async with asyncio.timeout(PATIENCE):
        while failures < 3:
            await asyncio.sleep(0.01)
    is_down = False
    await claims.close()

    assert 200 == (await api.open(created["secret_key"]))[0]


async def test_an_opening_after_a_timeout_is_returned(api: Api) -> None:
    """If the request times out while the claim is in flight, the secret can still be opened."""
    created = await api.create()
    claims = ClaimStore(api.mongo, BATCHING)
    item = await found(api)
    reached, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Flaky):
        async def update_many(self, *arguments: Any) -> Any:
            result = await api.items.update_many(*arguments)
            reached.set()
            await go_on.wait()
            return result

    claims._collection = Slow(api.items, carried_out=True)
    opening = asyncio.create_task(claims.claim(item))
    await reached.wait()
    opening.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await claims.close()

    assert opening.cancelled()
    assert 200 == (await api.open(created["secret_key"]))[0]


async def test_an_opening_just_before_a_timeout_is_returned(api: Api) -> None:
    """If the request times out at the moment the claim succeeds, the secret can still be opened."""
    created = await api.create()
    claims = ClaimStore(api.mongo, BATCHING)
    item = await found(api)

    class Late(Flaky):
        async def update_many(self, *arguments: Any) -> Any:
            result = await api.items.update_many(*arguments)
            asyncio.get_running_loop().call_soon(opening.cancel)
            return result

    claims._collection = Late(api.items, carried_out=True)
    opening = asyncio.create_task(claims.claim(item))
    await asyncio.wait([opening])
    await claims.close()

    assert opening.cancelled()
    assert 200 == (await api.open(created["secret_key"]))[0]


async def test_a_cancelled_loser_returns_nothing(api: Api) -> None:
    """A cancelled reader that had lost the race leaves the item opened."""
    created = await api.create()
    claims = ClaimStore(api.mongo, BATCHING)
    item = await found(api)
    assert 200 == (await api.open(created["secret_key"]))[0]

    opening = asyncio.create_task(claims.claim(item))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    opening.cancel()
    await claims.close()

    assert "opened" == await api.state(created["receipt_key"])


async def test_the_list_of_void_claims_stays_short(api: Api) -> None:
    """The document stays small, however many openings fail."""
    await api.create()
    await api.items.update_one({}, {"$set": {"voided_claims": [ObjectId() for _ in range(100)]}})
    claims, _ = flaky_claims(api, carried_out=False)

    with pytest.raises(Unavailable):
        await claims.claim(await found(api))
    await claims.close()

    assert 100 == len((await api.items.find_one())["voided_claims"])


async def test_returning_ends_with_the_expiry(api: Api) -> None:
    """After the expiry the item cannot be opened, so there is nothing to return."""
    await api.create()
    claims, flaky = flaky_claims(api, carried_out=False)
    item = replace(await found(api), expires_at=api.mongo.clock.now() + timedelta(seconds=1))

    async def update_one(*_: Any) -> Any:
        raise AutoReconnect("down for good")

    flaky.update_one = update_one  # type: ignore[attr-defined]
    with pytest.raises(Unavailable):
        await claims.claim(item)

    await asyncio.wait_for(claims.close(), PATIENCE)


async def test_racing_claims_of_many_items_each_have_one_winner(serve: Serve, api: Api) -> None:
    """With batches over 3 servers in different orders, exactly 1 request opens each item."""
    shared = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys}
    servers = [api, await serve(**shared), await serve(**shared)]
    keys = [(await api.create(f"text {n}"))["secret_key"] for n in range(40)]

    async def open_all(server: Api, order: list[str]) -> list[tuple[str, int]]:
        answers = await asyncio.gather(*(server.open(key) for key in order))
        return [(key, status) for key, (status, _) in zip(order, answers, strict=True)]

    results = await asyncio.gather(
        open_all(servers[0], keys), open_all(servers[1], keys[::-1]), open_all(servers[2], keys[20:] + keys[:20])
    )

    winners = [key for result in results for key, status in result if status == 200]
    assert sorted(keys) == sorted(winners)
