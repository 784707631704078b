"""One-time secrets and receipts over the API."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from yarl import URL

from .conftest import Api
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]


def moment(created: Any, name: str = "expires_at") -> datetime:
    """Return a time in an answer. Their texts do not compare: one in a whole second has no fraction."""
    return datetime.fromisoformat(created[name])


async def expire(created: Any) -> None:
    """Wait until a secret has expired, by every clock of this host."""
    # A timer may fire a millisecond early, and a server's idea of MongoDB's clock is up to 2 ms late.
    expired = moment(created) + timedelta(milliseconds=10)
    while (left := (expired - datetime.now(UTC)).total_seconds()) > 0:
        await asyncio.sleep(left)


async def test_a_secret_opens_once(api: Api) -> None:
    """The first opening gets the text; the second gets only a 404."""
    created = await api.create("correct horse")

    assert (200, {"secret": "correct horse", "opens_left": 0}) == await api.open(created["secret_key"])
    status, problem = await api.open(created["secret_key"])
    assert (404, "Key not found", "Key not found") == (status, problem["detail"], problem["Error"])


async def test_the_older_api_works_unchanged(api: Api) -> None:
    """JSON sent by `curl -d`, with its form content type, is accepted; passwords, ttl and errors are unchanged."""
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"secret": "s3cret", "phrase": "open sesame", "ttl": {"days": 1, "hours": 2, "minutes": 3}}'

    created = await api.send("POST", "/generate", body, **form)
    path = "/secrets/" + created.json()["secret_key"]
    wrong = await api.send("POST", path, b'{"phrase": "open barley"}', **form)
    right = await api.send("POST", path, b'{"phrase": "open sesame"}', **form)
    again = await api.send("POST", path, b'{"phrase": "open sesame"}', **form)

    assert [201, 403, 200, 404] == [answer.status for answer in (created, wrong, right, again)]
    assert "Incorrect phrase" == wrong.json()["Error"]
    assert "s3cret" == right.json()["secret"]
    assert "Key not found" == again.json()["Error"]


async def test_creation_returns_everything_documented(api: Api) -> None:
    """Key, receipt, link and expiry: 7 days by default."""
    before = datetime.now(UTC)

    created = await api.create()

    assert {"secret_key", "receipt_key", "expires_at", "url"} == set(created)
    assert created["url"] == str(api.client.make_url(f"/secrets/{created['secret_key']}"))
    lifetime = moment(created) - before
    assert timedelta(days=7).total_seconds() == pytest.approx(lifetime.total_seconds(), abs=PATIENCE)


async def test_looking_opens_nothing(api: Api) -> None:
    """A link preview may send any number of GET or HEAD requests."""
    created = await api.create(max_opens=3, phrase="p", ttl={"hours": 1})
    path = f"/secrets/{created['secret_key']}"

    looks = [await api.call("GET", path) for _ in range(5)]
    head = await api.send("HEAD", path)

    assert 200 == head.status
    for status, answer in looks:
        assert (200, True, 3) == (status, answer["phrase_required"], answer["opens_left"])
        assert created["expires_at"] == answer["expires_at"]
    assert "waiting" == await api.state(created["receipt_key"])


@pytest.mark.parametrize(
    "text", ["\x00", " ", "é", "漢字", "🔑" * 40, "\ufeffa", "a\r\nb", "\U0010ffff", "x" * 200_000]
)
async def test_the_text_comes_back_exactly(api: Api, text: str) -> None:
    """Every plane of Unicode, control characters and long texts."""
    created = await api.create(text)

    status, answer = await api.open(created["secret_key"])

    assert (200, text) == (status, answer["secret"])


async def test_several_openings_are_counted_down(api: Api) -> None:
    """With max_opens the text opens that often, and each response has the number left."""
    created = await api.create(max_opens=3)

    answers = [await api.open(created["secret_key"]) for _ in range(4)]

    assert [(200, 2), (200, 1), (200, 0), (404, None)] == [(s, a.get("opens_left")) for s, a in answers]


@pytest.mark.parametrize("max_opens", [1, 7])
async def test_racing_readers_never_open_more_than_allowed(serve: Serve, api: Api, max_opens: int) -> None:
    """Of 200 readers over 4 servers on one database, exactly max_opens succeed."""
    shared = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys}
    servers = [api, *[await serve(**shared) for _ in range(3)]]
    for _ in range(3):
        created = await api.create(max_opens=max_opens)

        answers = await asyncio.gather(*(servers[n % 4].open(created["secret_key"]) for n in range(200)))

        assert Counter({200: max_opens, 404: 200 - max_opens}) == Counter(status for status, _ in answers)
        left = sorted(answer["opens_left"] for status, answer in answers if status == 200)
        assert list(range(max_opens)) == left


async def test_an_expired_secret_does_not_open(api: Api) -> None:
    """The query checks the expiry, and does not depend on MongoDB's deletion."""
    created = await api.create(ttl={"seconds": 3})
    path = f"/secrets/{created['secret_key']}"
    assert 200 == (await api.call("GET", path))[0]

    await expire(created)

    assert 404 == (await api.call("GET", path))[0]
    assert 404 == (await api.open(created["secret_key"]))[0]
    assert "expired" == await api.state(created["receipt_key"])
    assert 404 == (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]


async def test_the_receipt_shows_the_state_of_a_secret(api: Api) -> None:
    """Waiting, opened and burned, with the time of opening and without content."""
    created = await api.create()
    path = f"/receipts/{created['receipt_key']}"

    _, waiting = await api.call("GET", path)
    await api.open(created["secret_key"])
    _, opened = await api.call("GET", path)

    assert ("waiting", None, 1, 0) == tuple(
        waiting[name] for name in ("state", "opened_at", "opens_left", "failed_attempts")
    )
    assert ("opened", 0) == (opened["state"], opened["opens_left"])
    assert moment(opened, "created_at") <= moment(opened, "opened_at") <= moment(opened)
    assert created["expires_at"] == opened["expires_at"]


async def test_the_sender_burns_a_secret(api: Api) -> None:
    """A burned secret cannot be opened; burning it again, or an opened one, says that it is already gone."""
    burned, opened = await api.create(), await api.create()
    await api.open(opened["secret_key"])

    assert (204, None) == await api.call("DELETE", f"/receipts/{burned['receipt_key']}")
    assert 404 == (await api.open(burned["secret_key"]))[0]
    assert "burned" == await api.state(burned["receipt_key"])
    assert 404 == (await api.call("DELETE", f"/receipts/{burned['receipt_key']}"))[0]
    assert 404 == (await api.call("DELETE", f"/receipts/{opened['receipt_key']}"))[0]


async def test_a_receipt_outlives_its_document(api: Api) -> None:
    """A secret that expired unopened leaves no document, and its receipt still works; later it is unknown."""
    expired, lost = await api.create(ttl={"seconds": 1}), await api.create()
    await expire(expired)
    await api.items.delete_many({})

    status, answer = await api.call("GET", f"/receipts/{expired['receipt_key']}")

    assert (200, "expired", 0, None) == (status, answer["state"], answer["opens_left"], answer["failed_attempts"])
    assert expired["expires_at"] == answer["expires_at"]
    assert 404 == (await api.call("GET", f"/receipts/{lost['receipt_key']}"))[0]


async def test_a_tombstone_holds_no_content(api: Api) -> None:
    """However an item ends, its envelope and its password's salt are removed and a deletion date is set."""
    opened, burned, locked = [await api.create(phrase="p", max_attempts=1) for _ in range(3)]
    await api.open(opened["secret_key"], phrase="p")
    await api.call("DELETE", f"/receipts/{burned['receipt_key']}")
    await api.open(locked["secret_key"], phrase="wrong")

    documents = await api.items.find().to_list(None)

    assert {"opened", "burned", "locked"} == {document["state"] for document in documents}
    for document in documents:
        assert not {"envelope", "phrase"} & set(document)
        assert timedelta(days=7) == document["delete_at"] - document["expires_at"]


@pytest.mark.parametrize(
    "key", ["x", "A" * 42, "A" * 44, "A" * 42 + "B", "%C3%A9" * 43, "%00" * 43, "a%2Fb", "=" * 43, "A" * 4000, "%ff%fe"]
)
async def test_a_malformed_key_is_an_unknown_key(api: Api, key: str) -> None:
    """Any text in place of a key gets the response of an unknown key."""
    for method, kind in [("GET", "secrets"), ("POST", "secrets"), ("GET", "receipts"), ("DELETE", "receipts")]:
        async with api.client.request(method, URL(f"/{kind}/{key}", encoded=True)) as response:
            assert 404 == response.status


async def test_a_receipt_key_opens_nothing(api: Api) -> None:
    """The sender's key is not the reader's, and vice versa."""
    created = await api.create()

    assert 404 == (await api.open(created["receipt_key"]))[0]
    assert 404 == (await api.call("GET", f"/receipts/{created['secret_key']}"))[0]
    assert 200 == (await api.open(created["secret_key"]))[0]


@pytest.mark.parametrize(
    "ttl",
    [
        {},
        {"seconds": 0},
        {"days": 8},
        {"days": 7, "seconds": 1},
        {"hours": -1},
        {"days": 1, "hours": -1},
        {"days": 10**30},
    ],
)
async def test_a_ttl_out_of_bounds_is_rejected_with_the_limit(api: Api, ttl: dict[str, int]) -> None:
    """Zero, negative and too long ones; the error has the limit in words."""
    status, problem = await api.call("POST", "/generate", {"secret": "s", "ttl": ttl})

    assert (400, "ttl") == (status, problem["errors"][0]["field"])
    assert "at most 7 days" in problem["errors"][0]["reason"]


async def test_the_limits_are_the_operators(serve: Serve) -> None:
    """Default and maximum time to live come from the settings."""
    api = await serve(ttl_default=60, ttl_max=5400)

    created = await api.create()
    status, problem = await api.call("POST", "/generate", {"secret": "s", "ttl": {"hours": 2}})

    lifetime = moment(created) - datetime.now(UTC)
    assert timedelta(0) < lifetime <= timedelta(seconds=60)
    assert (400, True) == (status, "at most 1 hour, 30 minutes" in problem["errors"][0]["reason"])


@pytest.mark.lifecycle
async def test_mongodb_deletes_expired_secrets(bare_mongod: str, serve: Serve) -> None:
    """A secret with 5 seconds to live opens before, is 404 after, and its document is deleted."""
    api = await serve(f"mongodb://{bare_mongod}/?replicaSet=rs")
    created = await api.create(ttl={"seconds": 5}, max_opens=2)

    assert 200 == (await api.open(created["secret_key"]))[0]
    async with asyncio.timeout(PATIENCE):
        while await api.items.count_documents({}):
            await asyncio.sleep(0.1)

    assert datetime.now(UTC) >= moment(created)
    assert 404 == (await api.open(created["secret_key"]))[0]
    assert "expired" == await api.state(created["receipt_key"])
