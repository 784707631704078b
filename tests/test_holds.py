"""Held openings: the reader who opened a secret may ask again, and no other reader gets the text."""

import asyncio
import json
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from bson import BSON

from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, read_key_ring
from src.core.crypto.sealing import Link, Sealer, Unsealable
from src.core.database.purging import purge
from src.core.database.resealing import Resealing
from src.sealed.holds import INDEXES, derive_claim_id
from src.sealed.items import from_document
from src.storage import EXPIRING, RESEALABLE

from .conftest import Api, altered
from .processes import ROOT

Serve = Callable[..., Awaitable[Api]]
GONE = (404, "key_not_found")


def new_reader() -> str:
    """Return the key of a reader."""
    return secrets.token_urlsafe(32)


def copies(api: Api) -> Any:
    """Return the collection of held copies."""
    return api.mongo.collection("held")


async def receive(api: Api, secret_key: str, reader: str) -> int:
    """Confirm a text, and return the status."""
    return (await api.call("POST", f"/secrets/{secret_key}/received", {"reader": reader}))[0]


async def outcome(api: Api, secret_key: str, **fields: object) -> tuple[int, str]:
    """Open a secret, and return the status with the text or the code of the problem."""
    status, answer = await api.open(secret_key, **fields)
    return status, answer.get("secret") or answer["code"]


async def end_holds(api: Api) -> None:
    """Let all holds end, as MongoDB's clock would."""
    past = utc_now() - timedelta(seconds=1)
    await api.items.update_many({"holds": {"$exists": True}}, {"$set": {"holds.$[].until": past}})
    await copies(api).update_many({}, {"$set": {"expires_at": past}})
    assert [("held", True)] == [(name, deleted >= 0) async for name, deleted in purge(api.mongo, INDEXES)]


async def envelopes(api: Api) -> int:
    """Return the number of envelopes in all collections except for the audit's, which have no text."""
    database = api.mongo.database
    documents = [
        document
        for name in await database.list_collection_names()
        if name != "audit"
        for document in await database[name].find().to_list()
    ]
    return sum(BSON.encode(document).count(b"envelope") for document in documents)


@pytest.mark.parametrize("fields", [{}, {"phrase": "p"}, {"max_opens": 2}])
async def test_a_reader_gets_the_same_response_again(api: Api, fields: dict[str, Any]) -> None:
    """Ten times, on the same terms, while all other readers get 404."""
    created = await api.create("the text", **fields)
    phrase = {"phrase": "p"} if "phrase" in fields else {}
    reader = new_reader()
    opens_left = fields.get("max_opens", 1) - 1

    first = await api.open(created["secret_key"], reader=reader, **phrase)
    if opens_left:
        assert 200 == (await api.open(created["secret_key"], reader=new_reader()))[0]
    answers = []
    for _ in range(10):
        answers.append(await api.open(created["secret_key"], reader=reader, **phrase))
        for other in ({}, {"reader": new_reader()}):
            assert GONE == await outcome(api, created["secret_key"], **other, **phrase)

    assert (200, "the text", opens_left) == (first[0], first[1]["secret"], first[1]["opens_left"])
    assert [first] * 10 == answers
    held = datetime.fromisoformat(first[1]["held_until"]) - utc_now()
    assert timedelta(seconds=60) < held <= timedelta(seconds=120)


async def test_without_a_key_a_response_is_as_before(api: Api) -> None:
    """No new field, no copy, no second time."""
    for fields in ({}, {"reader": None}):
        created = await api.create()

        assert (200, {"secret": "a secret", "opens_left": 0}) == await api.open(created["secret_key"], **fields)
        assert GONE == await outcome(api, created["secret_key"])
    assert 0 == await copies(api).count_documents({})


async def test_holding_can_be_switched_off(serve: Serve) -> None:
    """With SEALPOST_HOLD=0 a reader's key changes nothing."""
    api = await serve(hold=0)
    created, reader = await api.create(), new_reader()

    assert (200, {"secret": "a secret", "opens_left": 0}) == await api.open(created["secret_key"], reader=reader)
    assert GONE == await outcome(api, created["secret_key"], reader=reader)
    assert 404 == await receive(api, created["secret_key"], reader)
    assert (0, 1) == (await copies(api).count_documents({}), await api.items.count_documents({"holds": None}))


@pytest.mark.parametrize(
    "reader", ["", "short", "A" * 42, "A" * 44, "A" * 42 + "B", "A" * 42 + "=", "+" * 43, "é" * 43, " " * 43, 7, [], {}]
)
async def test_an_invalid_key_is_refused(api: Api, reader: Any) -> None:
    """With a sentence that says which form it must have, before anything is opened."""
    created = await api.create()

    opened = await api.open(created["secret_key"], reader=reader)
    received = await api.call("POST", f"/secrets/{created['secret_key']}/received", {"reader": reader})

    for status, problem in (opened, received):
        assert (400, "malformed", "reader") == (status, problem["code"], problem["errors"][0]["field"])
        wanted = "must be 32 random bytes in URL-safe base64: 43 characters"
        assert problem["errors"][0]["reason"] in {wanted, "must be a string"}
        assert str(reader) not in json.dumps(problem) or len(str(reader)) < 5
    assert "waiting" == await api.state(created["receipt_key"])
    assert 400 == (await api.call("POST", f"/secrets/{created['secret_key']}/received"))[0]


@pytest.mark.parametrize("max_opens", [1, 3])
async def test_of_racing_readers_only_winners_may_ask_again(serve: Serve, api: Api, max_opens: int) -> None:
    """200 readers with keys over 4 servers: the winners get their response ten times, the others 404 throughout."""
    shared = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys}
    servers = [api, *[await serve(**shared) for _ in range(3)]]
    for _ in range(3):
        created = await api.create(max_opens=max_opens)
        readers = [new_reader() for _ in range(200)]

        answers = await asyncio.gather(
            *(servers[n % 4].open(created["secret_key"], reader=reader) for n, reader in enumerate(readers))
        )

        assert Counter({200: max_opens, 404: 200 - max_opens}) == Counter(status for status, _ in answers)
        won = {reader: answer for reader, answer in zip(readers, answers, strict=True) if answer[0] == 200}
        assert list(range(max_opens)) == sorted(answer["opens_left"] for _, answer in won.values())
        for round_number in range(10):
            again = await asyncio.gather(
                *(
                    servers[(n + round_number) % 4].open(created["secret_key"], reader=reader)
                    for n, reader in enumerate([*won, *readers[:20]])
                )
            )
            assert list(won.values()) == list(again[:max_opens])
            others = [one for reader, one in zip(readers[:20], again[max_opens:], strict=True) if reader not in won]
            assert {404} == {status for status, _ in others}
        assert max_opens == await copies(api).count_documents({})
        for reader in won:
            assert 204 == await receive(api, created["secret_key"], reader)
        assert 0 == await envelopes(api)


async def test_one_reader_who_asks_twice_at_once_opens_once(serve: Serve, api: Api) -> None:
    """A client that is impatient uses up no second opening."""
    other = await serve(mongo_database=api.settings.mongo_database, keys=api.settings.keys)
    for fields in ({}, {"phrase": "p"}):
        created, reader = await api.create(max_opens=5, **fields), new_reader()

        answers = await asyncio.gather(
            *((api, other)[n % 2].open(created["secret_key"], reader=reader, **fields) for n in range(10))
        )

        # With a password, a request may find the attempt of another one in progress.
        told = [answer for answer in answers if answer[0] != 429]
        assert [told[0]] * len(told) == told
        assert (200, 4) == (told[0][0], told[0][1]["opens_left"])
        assert 4 == (await api.call("GET", f"/receipts/{created['receipt_key']}"))[1]["opens_left"]
    assert [] == (await api.items.find_one({"phrase": {"$exists": True}}))["checks"]


@pytest.mark.parametrize("fields", [{}, {"phrase": "p"}])
async def test_a_reader_killed_before_reading_asks_again(api: Api, fields: dict[str, Any]) -> None:
    """The connection breaks while the response is under way: asking again gets the text."""
    for milliseconds in range(0, 30, 3):
        created, reader = await api.create("the text", **fields), new_reader()
        opening = asyncio.create_task(api.open(created["secret_key"], reader=reader, **fields))
        await asyncio.sleep(milliseconds / 1000)
        opening.cancel()
        await asyncio.wait([opening])

        assert (200, "the text") == await outcome(api, created["secret_key"], reader=reader, **fields)
        assert GONE == await outcome(api, created["secret_key"], reader=new_reader(), **fields)


async def test_after_received_nothing_is_left(api: Api) -> None:
    """`received` may be repeated; it ends the hold for good, and only its reader can send it."""
    created, reader = await api.create(), new_reader()
    other = await api.create()
    assert 404 == await receive(api, created["secret_key"], reader)
    await api.open(created["secret_key"], reader=reader)
    assert 404 == await receive(api, created["secret_key"], new_reader())
    assert 404 == await receive(api, other["secret_key"], reader)
    assert 404 == await receive(api, "A" * 43, reader)
    assert 200 == (await api.open(created["secret_key"], reader=reader))[0]

    statuses = [await receive(api, created["secret_key"], reader) for _ in range(3)]

    assert [204] * 3 == statuses
    assert GONE == await outcome(api, created["secret_key"], reader=reader)
    assert 0 == await copies(api).count_documents({})
    assert [datetime.fromisoformat(other["expires_at"])] == [
        document["expires_at"] async for document in api.items.find({"envelope": {"$ne": None}})
    ]


async def test_after_the_hold_nothing_is_left(serve: Serve) -> None:
    """By MongoDB's clock; a late `received` is still recorded."""
    # Long enough for two requests, however busy the machine is.
    api = await serve(hold=5)
    created, reader = await api.create(), new_reader()
    _, answer = await api.open(created["secret_key"], reader=reader)
    assert 200 == (await api.open(created["secret_key"], reader=reader))[0]

    await asyncio.sleep((datetime.fromisoformat(answer["held_until"]) - utc_now()).total_seconds() + 0.05)

    assert GONE == await outcome(api, created["secret_key"], reader=reader)
    assert [1] == [deleted async for _, deleted in purge(api.mongo, INDEXES)] or not await copies(api).count_documents(
        {}
    )
    assert 0 == await envelopes(api)
    assert 204 == await receive(api, created["secret_key"], reader)


async def test_no_hold_outlasts_the_secret(api: Api) -> None:
    """It ends when the secret would have expired."""
    created, reader = await api.create(ttl={"seconds": 20}), new_reader()

    _, answer = await api.open(created["secret_key"], reader=reader)

    assert created["expires_at"] == answer["held_until"]


@pytest.mark.parametrize("max_opens", [1, 2])
async def test_a_burn_ends_the_hold(api: Api, max_opens: int) -> None:
    """The burn gets 204 once, the reader 404, and nothing is left; the receipt tells that it was opened."""
    created, reader = await api.create(max_opens=max_opens), new_reader()
    assert 200 == (await api.open(created["secret_key"], reader=reader))[0]
    path = f"/receipts/{created['receipt_key']}"

    burned = [(await api.call("DELETE", path))[0] for _ in range(2)]

    assert [204, 404] == burned
    assert GONE == await outcome(api, created["secret_key"], reader=reader)
    assert GONE == await outcome(api, created["secret_key"], reader=new_reader())
    assert 404 == await receive(api, created["secret_key"], reader)
    assert (0, 0) == (await copies(api).count_documents({}), await envelopes(api))
    _, receipt = await api.call("GET", path)
    assert ("opened" if max_opens == 1 else "burned", None) == (receipt["state"], receipt["received_at"])
    assert receipt["opened_at"] is not None


async def test_a_burn_after_received_is_too_late(api: Api) -> None:
    """As after an opening without a hold."""
    created, reader = await api.create(), new_reader()
    await api.open(created["secret_key"], reader=reader)
    await receive(api, created["secret_key"], reader)

    assert 404 == (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]


async def test_several_readers_hold_their_openings(api: Api) -> None:
    """Each ends its own, also while the secret is waiting for more readers."""
    created = await api.create(max_opens=3)
    readers = [new_reader() for _ in range(3)]
    first = [await api.open(created["secret_key"], reader=reader) for reader in readers[:2]]

    assert 204 == await receive(api, created["secret_key"], readers[0])

    assert GONE == await outcome(api, created["secret_key"], reader=readers[0])
    assert first[1] == await api.open(created["secret_key"], reader=readers[1])
    last = await api.open(created["secret_key"], reader=readers[2])
    assert [1, 0] == [first[1][1]["opens_left"], last[1]["opens_left"]]
    assert first[1] == await api.open(created["secret_key"], reader=readers[1])
    assert last == await api.open(created["secret_key"], reader=readers[2])
    assert 2 == await copies(api).count_documents({})
    for reader in readers[1:]:
        assert 204 == await receive(api, created["secret_key"], reader)
    assert (0, 0) == (await copies(api).count_documents({}), await envelopes(api))


@pytest.mark.parametrize("max_opens", [1, 2])
async def test_the_password_is_needed_again_and_costs_no_attempt(api: Api, max_opens: int) -> None:
    """A wrong or missing one is refused, as often as it is sent."""
    created, reader = await api.create(phrase="right", max_attempts=3, max_opens=max_opens), new_reader()
    assert (403, "incorrect_phrase") == await outcome(api, created["secret_key"], reader=reader, phrase="wrong")
    first = await api.open(created["secret_key"], reader=reader, phrase="right")

    for _ in range(5):
        assert (403, "phrase_required") == await outcome(api, created["secret_key"], reader=reader)
        status, problem = await api.open(created["secret_key"], reader=reader, phrase="wrong")
        assert (403, "incorrect_phrase", 2) == (status, problem["code"], problem["attempts_left"])

    assert first == await api.open(created["secret_key"], reader=reader, phrase="right")
    assert 1 == (await api.call("GET", f"/receipts/{created['receipt_key']}"))[1]["failed_attempts"]
    if max_opens == 1:
        assert GONE == await outcome(api, created["secret_key"], reader=new_reader(), phrase="right")


async def test_wrong_passwords_of_others_end_no_hold(api: Api) -> None:
    """A reader who has the text keeps it when a second one destroys the secret by guessing."""
    created, reader = await api.create(phrase="right", max_attempts=1, max_opens=2), new_reader()
    first = await api.open(created["secret_key"], reader=reader, phrase="right")

    assert (403, "incorrect_phrase") == await outcome(api, created["secret_key"], reader=new_reader(), phrase="wrong")

    assert "locked" == await api.state(created["receipt_key"])
    assert first == await api.open(created["secret_key"], reader=reader, phrase="right")
    assert GONE == await outcome(api, created["secret_key"], reader=new_reader(), phrase="right")
    assert 204 == await receive(api, created["secret_key"], reader)
    assert (0, 0) == (await copies(api).count_documents({}), await envelopes(api))


async def test_the_receipt_tells_what_became_of_it(api: Api) -> None:
    """When the reader confirmed the text, and how often others came too late."""
    created, reader = await api.create(), new_reader()
    path = f"/receipts/{created['receipt_key']}"
    names = ("state", "received_at", "late_attempts", "last_late_at")

    _, waiting = await api.call("GET", path)
    await api.open(created["secret_key"], reader=reader)
    _, opened = await api.call("GET", path)
    await receive(api, created["secret_key"], reader)
    _, received = await api.call("GET", path)
    await receive(api, created["secret_key"], reader)
    # Its own reader, and a look at the link, are not too late.
    await api.open(created["secret_key"], reader=reader)
    await api.call("GET", f"/secrets/{created['secret_key']}")
    assert received == (await api.call("GET", path))[1]
    for fields in ({}, {"reader": new_reader()}, {"phrase": "any"}):
        assert GONE == await outcome(api, created["secret_key"], **fields)
    _, late = await api.call("GET", path)

    assert ("waiting", None, 0, None) == tuple(waiting[name] for name in names)
    assert ("opened", None, 0, None) == tuple(opened[name] for name in names)
    assert ("opened", 0, None) == tuple(received[name] for name in names if name != "received_at")
    times = [
        datetime.fromisoformat(time) for time in (opened["opened_at"], received["received_at"], late["last_late_at"])
    ]
    assert sorted(times) == times
    assert ("opened", received["received_at"], 3) == tuple(late[name] for name in names[:3])


@pytest.mark.parametrize("fraction", [0, 1_000, 250_000])
async def test_a_late_reader_is_told_the_time_as_the_sender_is(api: Api, fraction: int) -> None:
    """In the same form, whatever the fraction of a second."""
    created = await api.create()
    await api.open(created["secret_key"])
    await api.items.update_one({}, {"$set": {"opened_at": utc_now().replace(microsecond=fraction)}})

    _, problem = await api.call("GET", f"/secrets/{created['secret_key']}")

    assert problem["opened_at"] == (await api.call("GET", f"/receipts/{created['receipt_key']}"))[1]["opened_at"]


async def test_losers_of_a_race_came_too_late(api: Api) -> None:
    """Each counts once, with a key or without; burned and locked secrets count none."""
    raced, burned = await api.create(), await api.create(max_opens=2)
    await asyncio.gather(
        *(api.open(raced["secret_key"], **({"reader": new_reader()} if n % 2 else {})) for n in range(40))
    )
    await api.open(burned["secret_key"])
    await api.call("DELETE", f"/receipts/{burned['receipt_key']}")
    assert GONE == await outcome(api, burned["secret_key"])

    receipts = [(await api.call("GET", f"/receipts/{one['receipt_key']}"))[1] for one in (raced, burned)]

    assert [39, 0] == [receipt["late_attempts"] for receipt in receipts]


@pytest.mark.parametrize("value", ["many", None, [], 1_000_000])
async def test_a_broken_count_of_late_attempts_spoils_nothing(api: Api, value: Any) -> None:
    """It starts again from zero, and ends at a million."""
    created = await api.create()
    await api.open(created["secret_key"])
    await api.items.update_one({}, {"$set": {"late_attempts": value}})

    assert GONE == await outcome(api, created["secret_key"])

    _, receipt = await api.call("GET", f"/receipts/{created['receipt_key']}")
    assert (1_000_000 if value == 1_000_000 else 1) == receipt["late_attempts"]


@pytest.mark.parametrize("fields", [{}, {"phrase": "p"}])
async def test_a_stolen_database_with_held_copies_opens_nothing(api: Api, fields: dict[str, Any]) -> None:
    """The copies, all other collections and the server's keys: no envelope opens, and no key of a reader is there."""
    created = [await api.create("the plaintext", **fields) for _ in range(3)]
    readers = [new_reader() for _ in created]
    for one, reader in zip(created, readers, strict=True):
        assert 200 == (await api.open(one["secret_key"], reader=reader, **fields))[0]
    database = api.mongo.database
    stolen = b"".join(
        [
            BSON.encode(one)
            for name in await database.list_collection_names()
            for one in await database[name].find().to_list()
        ]
    )
    held = await copies(api).find().to_list()
    sealer = Sealer(read_key_ring(api.settings))

    assert 3 == len(held)
    assert b"the plaintext" not in stolen
    for one, reader in zip(created, readers, strict=True):
        link = Link.parse(one["secret_key"])
        assert link is not None
        for secret in (link.key, one["secret_key"].encode(), reader.encode(), new_reader_bytes(reader)):
            assert secret not in stolen
    for copy in held:
        item = from_document(copy["item"])
        for guess in (Link(bytes(32)), Link(copy["_id"] * 2), Link(item.item_id * 2), Link.new()):
            with pytest.raises(Unsealable):
                sealer.open(item.envelope, key_id=item.key_id, link=guess, terms=item.terms)


def new_reader_bytes(reader: str) -> bytes:
    """Return the bytes of a reader's key."""
    link = Link.parse(reader)
    assert link is not None
    return link.key


def test_a_claim_id_needs_both_the_link_and_the_readers_key() -> None:
    """The example in docs/security.md."""
    link, reader = Link(bytes(range(32, 64))), bytes(range(64, 96))

    assert "a6646d605d33405e5c79f2472a75ec24" == derive_claim_id(link, reader).hex()
    assert derive_claim_id(link, reader).hex() in (ROOT / "docs" / "security.md").read_text()
    assert 3 == len({derive_claim_id(*pair) for pair in ((link, reader), (Link(bytes(32)), reader), (link, bytes(32)))})


async def test_a_copy_keeps_its_key_in_use(serve: Serve) -> None:
    """Until the hold ends, the key that seals a held copy may not be dropped."""
    api = await serve(audit_ttl=0)  # its events are sealed as well
    created = await api.create()
    await api.open(created["secret_key"], reader=new_reader())
    old = read_key_ring(api.settings).newest
    entry = f"new:{'A' * 43}=,{api.settings.keys.get_secret_value()}"  # type: ignore[union-attr]
    resealing = Resealing(api.mongo, KeyRing.parse(entry), RESEALABLE, EXPIRING)

    during = await resealing.uses()
    missing = await Resealing(api.mongo, KeyRing.parse(entry.partition(",")[0]), RESEALABLE, EXPIRING).missing_keys()
    await end_holds(api)
    after = await resealing.uses()

    assert [("new", {}), (old, {"held": 1})] == [(use.key_id, use.waiting) for use in during.keys]
    assert ([old], [False, True]) == (missing, [after.may_be_dropped(use) for use in after.keys])


async def test_a_held_secret_under_a_missing_key_is_unavailable(serve: Serve, api: Api) -> None:
    """The reader may ask again once the operator has put the key back."""
    created, reader = await api.create(), new_reader()
    first = await api.open(created["secret_key"], reader=reader)
    await copies(api).update_one({}, {"$set": {"item.key_id": "elsewhere"}})

    assert (503, "unavailable") == await outcome(api, created["secret_key"], reader=reader)

    await copies(api).update_one({}, {"$set": {"item.key_id": read_key_ring(api.settings).newest}})
    assert first == await api.open(created["secret_key"], reader=reader)


async def test_a_changed_copy_never_opens(api: Api) -> None:
    """With any field changed or removed: a clear problem, and no plaintext."""
    created, reader = await api.create("the plaintext", phrase="p"), new_reader()
    await api.open(created["secret_key"], reader=reader, phrase="p")
    original = await copies(api).find_one()
    values: tuple[Any, ...] = (None, 7, [], {}, "x")
    changes: list[dict[str, Any]] = [{"$set": {"item": value}} for value in values]
    for name in original["item"]:
        if name not in {"failed_attempts", "checks"}:
            changes += [
                {"$unset": {f"item.{name}": 1}},
                *({"$set": {f"item.{name}": value}} for value in (None, 7, "x")),
            ]
    changes.append({"$set": {"item.envelope": altered(original["item"]["envelope"])}})
    for change in changes:
        await copies(api).update_one({}, change)

        status, answer = await api.open(created["secret_key"], reader=reader, phrase="p")

        assert status in {403, 410, 503}, change
        assert "the plaintext" not in str(answer)
        await copies(api).replace_one({"_id": original["_id"]}, original)
    await copies(api).delete_many({})
    assert 503 == (await api.open(created["secret_key"], reader=reader, phrase="p"))[0]


async def test_broken_holds_never_crash(api: Api) -> None:
    """Invalid values in the item's list of holds are a clear problem, never a 500."""
    created, reader = await api.create(), new_reader()
    await api.open(created["secret_key"], reader=reader)
    document = await api.items.find_one()
    [hold] = document["holds"]
    nonsense: Any
    for nonsense in (None, "x", 7, [None], [[]], [{}], [{**hold, "until": 1}], [{**hold, "received_at": "now"}], hold):
        await api.items.update_one({}, {"$set": {"holds": nonsense}})

        for fields in ({"reader": reader}, {"reader": new_reader()}, {}):
            assert (await api.open(created["secret_key"], **fields))[0] in {404, 410}
        assert await receive(api, created["secret_key"], reader) in {204, 404, 410, 503}
        assert (await api.call("GET", f"/receipts/{created['receipt_key']}"))[0] in {200, 410}


async def test_a_key_of_a_message_holds_nothing(api: Api) -> None:
    """A message cannot be opened as a secret, with a reader's key either."""
    _, message = await api.call("POST", "/", {"message": "hello"})
    key = message["url"].rpartition("/")[2]

    assert GONE == await outcome(api, key, reader=new_reader())
    assert 404 == await receive(api, key, new_reader())
    assert 0 == await copies(api).count_documents({})
