"""My secrets: a sender keeps receipts with the account, sees the states and burns items from there."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from src.accounts.auth import Authenticator
from src.accounts.problems import InvalidToken
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, new_key, read_key_ring
from src.core.crypto.records import RecordSealer
from src.core.crypto.sealing import decode, encode
from src.core.database.mongo import Mongo
from src.core.database.resealing import Resealing
from src.errors import Unavailable
from src.sealed.items import TOMBSTONE_LIFE
from src.sealed.kept_items import BY_USER, KIND, RESEALABLE, KeptItemContent, KeptItemStore, Position, older_than
from src.sealed.store import ItemStore

from .conftest import PASSWORD, Api
from .processes import PATIENCE
from .senders import operator_token
from .test_audit import audited
from .uploads import upload

Serve = Callable[..., Awaitable[Api]]
READER = "mJ0gyHhbsHn8h8nXn1o7kUq0Tt2cX3mJw9gqkQZb1zA"


async def keep(api: Api, token: str, **fields: object) -> Any:
    """Create a secret that the user keeps, and return the answer."""
    status, created = await api.call("POST", "/generate", {"secret": "s", "keep": True, **fields}, token=token)

    assert 201 == status
    return created


async def listed(api: Api, token: str, query: str = "") -> list[Any]:
    """Return a page of the user's items."""
    status, page = await api.call("GET", f"/me/items{query}", token=token)

    assert 200 == status
    return list(page["items"])


async def api_token(api: Api, session: str, *scopes: str) -> str:
    """Create an API token."""
    _, created = await api.call("POST", "/tokens", {"name": "x", "scopes": scopes}, token=session)
    return str(created["token"])


def id_of(created: Any) -> str:
    """Return the id of an item as its receipt key contains it."""
    return (decode(created["receipt_key"]) or b"")[1:17].hex()


async def test_the_list_has_the_states_of_the_receipts(api: Api) -> None:
    """In every state, with files and without, an item of the list has exactly the fields of its receipt."""
    token = await api.sign_up()
    file = {"upload": encode(await upload(api, b"content"))}
    _, message = await api.call("POST", "/", {"message": "m", "keep": True}, token=token)
    waiting, opened, held, received = [
        await keep(api, token, **fields) for fields in ({}, {}, {"files": [file]}, {"max_opens": 2})
    ]
    locked, burned, expired = [
        await keep(api, token, **fields) for fields in ({"phrase": "p", "max_attempts": 1}, {}, {"ttl": {"seconds": 1}})
    ]
    await api.create("not kept")
    await api.call("POST", "/generate", {"secret": "not kept"}, token=token)
    for created, fields in ((opened, {}), (held, {"reader": READER}), (received, {"reader": READER})):
        assert 200 == (await api.open(created["secret_key"], **fields))[0]
    assert 404 == (await api.open(opened["secret_key"]))[0]
    await api.call("POST", f"/secrets/{received['secret_key']}/received", {"reader": READER})
    assert 403 == (await api.open(locked["secret_key"], phrase="q"))[0]
    assert 204 == (await api.call("DELETE", f"/receipts/{burned['receipt_key']}"))[0]
    async with asyncio.timeout(PATIENCE):
        while "expired" != await api.state(expired["receipt_key"]):
            await asyncio.sleep(0.05)
    await api.call("POST", "/delete")

    created = [message, waiting, opened, held, received, locked, burned, expired]
    receipts = {id_of(one): (await api.call("GET", f"/receipts/{one['receipt_key']}"))[1] for one in created}
    shown = await listed(api, token)

    assert receipts == {item.pop("id"): item for item in shown if item.pop("kind")}
    states = [receipts[id_of(one)]["state"] for one in created]
    assert ["waiting", "waiting", "opened", "opened", "waiting", "locked", "burned", "expired"] == states
    assert receipts[id_of(received)]["received_at"]
    assert not receipts[id_of(held)]["received_at"]
    assert (1, 7) == (receipts[id_of(held)]["files"], receipts[id_of(held)]["files_bytes"])


async def test_pages_are_stable_even_under_equal_times(api: Api) -> None:
    """Newest first, each item exactly once, although a new one arrives; a forged cursor is refused."""
    token = await api.sign_up()
    ids = [id_of(await keep(api, token)) for _ in range(5)]

    assert ids[::-1] == [item["id"] for item in await listed(api, token)]
    await api.mongo.collection("kept_items").update_many({}, {"$set": {"created_at": utc_now()}})
    found, cursor = [], ""
    while True:
        _, page = await api.call("GET", f"/me/items?limit=2{cursor}", token=token)
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&before={page['next']}"
        await keep(api, token)

    assert sorted(ids, reverse=True) == found
    for wrong in ("AAAA", "_" * 30, encode(b"\xff" * 22)):
        assert 400 == (await api.call("GET", f"/me/items?before={wrong}", token=token))[0]


async def test_a_page_reads_its_items_with_one_query(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many items it has."""
    token = await api.sign_up()
    await asyncio.gather(*(keep(api, token) for _ in range(20)))
    queries, find = [], ItemStore._find_all

    async def count(store: ItemStore, item_ids: Sequence[bytes], *rest: Any) -> Any:
        queries.append(len(item_ids))
        return await find(store, item_ids, *rest)

    monkeypatch.setattr(ItemStore, "_find_all", count)

    assert 20 == len(await listed(api, token))
    assert [20] == queries


async def test_a_page_uses_the_index(api: Api) -> None:
    """MongoDB reads only the documents of the page, in the order of the index."""
    token = await api.sign_up()
    # One after the other: those of the same millisecond before the page would be read as well.
    for _ in range(10):
        await keep(api, token)
    last = (await api.mongo.collection("kept_items").find({}).sort("created_at", -1).to_list(None))[4]
    query = older_than(last["user_id"], Position(last["created_at"], last["_id"]), utc_now())
    find = {"find": "kept_items", "filter": query, "hint": BY_USER, "limit": 3}
    find["sort"] = {"created_at": -1, "_id": -1}

    told = await api.mongo.database.command({"explain": find, "verbosity": "executionStats"})

    assert "SORT" not in re.findall(r"'stage': '(\w+)'", str(told["queryPlanner"]["winningPlan"]))
    assert 5 >= told["executionStats"]["totalDocsExamined"]


async def test_burning_an_item_burns_it_as_its_receipt_does(api: Api) -> None:
    """Once; its files and its hold end as well, and the audit knows who did it."""
    token = await operator_token(api)
    file = {"upload": encode(await upload(api, b"content"))}
    waiting, held = await keep(api, token, files=[file]), await keep(api, token)
    assert 200 == (await api.open(held["secret_key"], reader=READER))[0]

    statuses = [
        (await api.call("DELETE", f"/me/items/{id_of(created)}", token=token))[0]
        for created in (waiting, held, waiting, held)
    ]

    assert [204, 204, 404, 404] == statuses
    assert ["burned", "opened"] == [await api.state(created["receipt_key"]) for created in (waiting, held)]
    assert 404 == (await api.open(held["secret_key"], reader=READER))[0]
    assert 0 == await api.mongo.collection("chunks").count_documents({})
    lines = await audited(api, token, 2, kind="item_burned")
    assert [id_of(created) for created in (waiting, held)] == [line["item_id"] for line in lines]
    assert {"the-operator"} == {line["username"] for line in lines}


async def test_items_belong_to_one_user(api: Api) -> None:
    """Another user neither sees nor burns them, even with write access to the record of the item."""
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    created, own = await keep(api, ann), await keep(api, bob)
    kept = api.mongo.collection("kept_items")

    async def burn() -> tuple[int, str]:
        status, answer = await api.call("DELETE", f"/me/items/{id_of(created)}", token=bob)
        return status, answer["code"]

    assert [id_of(own)] == [item["id"] for item in await listed(api, bob)]
    assert (404, "item_not_found") == await burn()
    record = await kept.find_one({"_id": bytes.fromhex(id_of(own))})
    await kept.update_many({}, {"$set": {"user_id": record["user_id"]}})
    assert [id_of(own)] == [item["id"] for item in await listed(api, bob)]
    assert (404, "item_not_found") == await burn()
    assert "waiting" == await api.state(created["receipt_key"])


async def test_records_contain_neither_link_nor_receipt_key(api: Api) -> None:
    """With the server's keys, a record has no more than owner, kind and times; it ends with the receipt."""
    token = await api.sign_up()
    created = await keep(api, token)
    document = await api.mongo.collection("kept_items").find_one({})
    opened = RecordSealer(read_key_ring(api.settings), KIND).open(KeptItemContent, document)
    item = await api.items.find_one({})

    assert {"_id", "user_id", "created_at", "delete_at", "key_id", "envelope"} == set(document)
    assert ("secret", item["created_at"], item["expires_at"]) == (opened.kind, opened.created_at, opened.expires_at)
    assert item["expires_at"] + TOMBSTONE_LIFE == document["delete_at"]
    await api.items.delete_many({})
    assert [] == await listed(api, token)
    assert 404 == (await api.call("DELETE", f"/me/items/{id_of(created)}", token=token))[0]


async def test_a_record_and_its_item_are_stored_together(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the item cannot be stored, there is no record either."""
    token = await api.sign_up()
    transact = Mongo.transact

    async def fail(mongo: Mongo, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def work_and_fail(session: Any) -> None:
            await work(session)
            raise Unavailable

        return await transact(mongo, work_and_fail)

    monkeypatch.setattr(Mongo, "transact", fail)

    assert 503 == (await api.call("POST", "/generate", {"secret": "s", "keep": True}, token=token))[0]
    assert [0, 0] == [await api.mongo.collection(name).count_documents({}) for name in ("items", "kept_items")]


async def test_records_survive_the_rotation_of_keys(api: Api) -> None:
    """Re-encrypted under a new key, they are readable without the old one."""
    token, new = await api.sign_up(), new_key()
    created = await keep(api, token)
    user_id = (await api.mongo.collection("kept_items").find_one({}))["user_id"]
    assert api.settings.keys
    both = KeyRing.parse(f"{new},{api.settings.keys.get_secret_value()}")

    await Resealing(api.mongo, both, [RESEALABLE], []).run(lambda *_: None)
    kept, _ = await KeptItemStore(api.mongo, KeyRing.parse(new)).page(user_id, None, 10)

    without, _ = await KeptItemStore(api.mongo, KeyRing.parse(new_key())).page(user_id, None, 10)
    assert [id_of(created)] == [one.item_id.hex() for one in kept]
    assert [] == without


async def test_tokens_of_requests_that_require_none(api: Api) -> None:
    """A token is checked if there is one, and required to keep; another scheme is no token."""
    session = await api.sign_up()
    secrets, messages = [await api_token(api, session, scope) for scope in ("secrets", "messages")]

    def statuses(path: str, body: object, *tokens: str) -> Any:
        return asyncio.gather(*(api.call("POST", path, body, token=token) for token in tokens))

    for path, body in (("/generate", {"secret": "s"}), ("/", {"message": "m"})):
        right, wrong = (secrets, messages) if path == "/generate" else (messages, secrets)
        answers = await statuses(path, body, "", session, right, wrong, "nonsense")
        keeping = await statuses(path, {**body, "keep": True}, "", session, right, wrong, "nonsense")
        others = [json.dumps({**body, "keep": keep}).encode() for keep in (False, True)]
        basic = [(await api.send("POST", path, data, Authorization="Basic YTpi")).status for data in others]

        assert [201, 201, 201, 403, 401] == [status for status, _ in answers]
        assert [401, 201, 201, 403, 401] == [status for status, _ in keeping]
        assert [201, 401] == basic
    assert 401 == (await api.send("POST", "/files", None, **{"Upload-Length": "1", "Authorization": "Bearer x"})).status
    assert 4 == len(await listed(api, secrets))
    assert [403, 401] == [(await api.call("GET", "/me/items", token=token))[0] for token in (messages, "")]


async def test_a_server_without_accounts_keeps_nothing(serve: Serve, own_database: str) -> None:
    """It says so, and ignores tokens."""
    api = await serve(features="messages", mongo_database=own_database)

    for path, body in (("/generate", {"secret": "s"}), ("/", {"message": "m"})):
        status, answer = await api.call("POST", path, {**body, "keep": True})

        assert (400, "keep") == (status, answer["errors"][0]["field"])
        assert 201 == (await api.call("POST", path, body, token="of another server"))[0]
    assert 404 == (await api.call("GET", "/me/items"))[0]


async def test_a_token_spends_the_budget_of_its_account(serve: Serve) -> None:
    """The budget of the address stays for requests without a token."""
    api = await serve(rate_limits="on", limit_create_bytes="1000 bytes per 1 hour")
    session = await api.sign_up()
    body = {"secret": "x" * 800}

    statuses = [(await api.call("POST", "/generate", body, token=token))[0] for token in (session, session, "", "")]

    assert [201, 429, 201, 429] == statuses


async def test_items_survive_their_account_and_records_do_not(api: Api) -> None:
    """Not even if an access token that is still valid creates another item."""
    token = await api.sign_up()
    created = await keep(api, token)

    assert 204 == (await api.call("DELETE", "/me", {"password": PASSWORD}, token=token))[0]
    assert 401 == (await api.call("POST", "/generate", {"secret": "s", "keep": True}, token=token))[0]
    assert 0 == await api.mongo.collection("kept_items").count_documents({})
    assert 200 == (await api.open(created["secret_key"]))[0]


async def test_a_record_of_an_account_that_is_just_deleted_is_removed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token outlives its account for a moment; an item that is created then is kept by no one."""
    token = await api.sign_up()

    async def gone(_: object, __: bytes) -> None:
        raise InvalidToken

    monkeypatch.setattr(Authenticator, "confirm", gone)

    assert 401 == (await api.call("POST", "/generate", {"secret": "s", "keep": True}, token=token))[0]
    assert 0 == await api.mongo.collection("kept_items").count_documents({})
