"""The gatherer: identify, authenticate, send, from one address and in this order; each message is stored once."""

import asyncio
import json
import secrets
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from src.accounts.access_tokens import AccessClaims, AccessTokens
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, new_key
from src.core.crypto.signed_tokens import LEEWAY
from src.gatherer.bundle import BundleContent, Delivery
from src.gatherer.bundle_store import BundleStore
from src.gatherer.export import _lines
from src.gatherer.schemas import LONGEST_BATCH_ID, MOST_MESSAGES
from src.gatherer.sender_states import IDS, TOKEN_LIFE, SenderClaims, SenderStates, SenderTokens

from .conftest import PASSWORD, Api, seconds_accepted
from .processes import PATIENCE
from .senders import HERE, THERE, Sender, code, operator_token, sent

Serve = Callable[..., Awaitable[Api]]


@pytest.fixture
async def api(share: Serve) -> Api:
    """A server that trusts nginx's address header."""
    return await share(behind_nginx=True)


@pytest.fixture
def sender(api: Api) -> Sender:
    """A sender's program."""
    return Sender(api)


def ring_of(api: Api) -> KeyRing:
    """Return the ring of a server."""
    assert api.settings.keys is not None
    return KeyRing.parse(api.settings.keys.get_secret_value())


async def test_the_three_requests_in_their_order(sender: Sender) -> None:
    """A new name gets 201, a known one 202, as do a first and a right password; messages are numbered."""
    assert 201 == (await sender.identify())[0]
    assert 202 == (await sender.identify())[0]
    status, answer = await sender.authenticate()
    assert (201, 600) == (status, answer["expires_in"])
    token = answer["token"]
    assert 202 == (await sender.authenticate())[0]

    first = await sender.message(token, message="hello")
    second = await sender.message(token, messages=["", "logout", "ünïcödé ☕\u2028\n\0"])

    assert (201, 1, 1) == (first[0], first[1]["first_sequence"], first[1]["last_sequence"])
    assert (201, 2, 4) == (second[0], second[1]["first_sequence"], second[1]["last_sequence"])
    lines = [("web-1", number, text) for number, text in enumerate(["hello", "", "logout", "ünïcödé ☕\u2028\n\0"], 1)]
    assert lines == await sent(sender.api, await operator_token(sender.api))


async def test_a_plain_client_of_the_requests_library_works(serve: Serve) -> None:
    """It posts the 3 documented messages, and reads the status from the body."""
    api = await serve()
    url = str(api.client.make_url("")).rstrip("/")
    talked: list[Any] = []

    def talk() -> None:
        def post(path: str, body: dict[str, str]) -> Any:
            response = requests.post(url + path, json=body, timeout=PATIENCE)
            answer = response.json()
            talked.append((response.status_code, answer["status_code"], answer["status_description"]))
            return answer

        post("/identify", {"message_type": "IDENTIFY", "username": "old-client"})
        authenticate = {"message_type": "AUTHENTICATE", "username": "old-client", "password": PASSWORD}
        token = post("/authenticate", authenticate)["token"]
        post("/message", {"message_type": "MESSAGE", "token": token, "message": "Hello, server!"})
        post("/message", {"message_type": "MESSAGE", "token": token, "message": "logout"})
        post("/message", {"message_type": "MESSAGE", "token": token, "message": "Are you there?"})
        post("/message", {"message_type": "MESSAGE", "token": "nonsense", "message": "Are you there?"})

    thread = threading.Thread(target=talk)
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)

    assert [
        *[(201, 201, "Document created, URL follows")] * 3,
        (202, 202, "Request accepted, processing continues off-line"),
        (403, 403, "Request forbidden -- authorization will not help"),
        (401, 401, "No permission -- see authorization schemes"),
    ] == talked


async def test_a_step_out_of_order_is_rejected_and_resets_the_state(sender: Sender) -> None:
    """Each step requires the one before it, and an early step resets those already made."""
    assert (403, "out_of_order") == code(await sender.authenticate())
    token = await sender.token()
    await sender.message(token, message="logout")
    assert (403, "out_of_order") == code(await sender.message(token, message="after the logout"))

    await sender.identify()
    assert (403, "out_of_order") == code(await sender.message(token, message="not authenticated again"))
    assert (403, "out_of_order") == code(await sender.authenticate())

    token = await sender.token()
    assert (1, 1) == await sender.send(token, "in order")


async def test_early_errors_have_the_members_of_the_protocol(api: Api) -> None:
    """For a wrong method or a cross-site page, /authenticate has an empty token, and other routes none."""
    for path in ("/identify", "/authenticate", "/message"):
        wrong_method = await api.send("GET", path)
        foreign = await api.send("POST", path, b"{}", **{"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"})

        for status, answer in ((405, wrong_method), (403, foreign)):
            told = answer.json()
            assert (status, told["detail"]) == (answer.status, told["status_message"])
            assert ("" if path == "/authenticate" else None) == told.get("token")


@pytest.mark.parametrize("goodbye", ["", "logout"])
async def test_an_empty_message_and_logout_sign_out(sender: Sender, goodbye: str) -> None:
    """202, nothing is stored, and the token stays invalid, also after authenticating again."""
    token = await sender.token()

    status, answer = await sender.message(token, message=goodbye, batch="b")

    assert (202, None, None) == (status, answer["first_sequence"], answer["last_sequence"])
    fresh = await sender.token()
    assert (403, "out_of_order") == code(await sender.message(token, message="with the old token"))
    assert (403, "out_of_order") == code(await sender.message(fresh, message="grounded by the old token"))
    assert (1, 1) == await sender.send(await sender.token(), "first")


async def test_two_programs_of_one_user_at_one_address_share_their_state(sender: Sender) -> None:
    """Neither program's steps disturb the other, and both tokens are valid."""
    one = await sender.token()
    other = await sender.token()

    assert (1, 1) == await sender.send(one, "one")
    assert (2, 2) == await sender.send(other, "other")
    await sender.identify()
    assert (3, 3) == await sender.send(one, "one")


async def test_a_token_is_valid_only_at_its_address(sender: Sender) -> None:
    """From elsewhere it is rejected, and only the state of that other address is reset."""
    elsewhere = replace(sender, address=THERE)
    stranger = replace(elsewhere, username="stranger")
    token, strangers = await sender.token(), await stranger.token()

    assert (403, "other_address") == code(await elsewhere.message(token, message="stolen"))
    assert (403, "other_address") == code(await elsewhere.message(token, message="logout"))

    assert (1, 1) == await sender.send(token, "still here")
    assert (1, 1) == await stranger.send(strangers, "and so am I")
    there = await elsewhere.token()
    assert (2, 2) == await elsewhere.send(there, "from there")
    assert (403, "other_address") == code(await elsewhere.message(token, message="the token of the other place"))
    assert (403, "out_of_order") == code(await elsewhere.message(there, message="grounded there"))
    assert (3, 3) == await sender.send(token, "and not here")


async def test_an_ipv6_network_is_one_address(sender: Sender) -> None:
    """A host that changes its address within its /64 remains the same sender."""
    home = replace(sender, address="2001:db8::1")
    token = await home.token()

    assert (1, 1) == await replace(home, address="2001:db8::2").send(token, "another address of mine")
    assert 403 == (await replace(home, address="2001:db8:0:1::1").message(token, message="x"))[0]


def claims_of(api: Api, token: str) -> SenderClaims:
    """Return the claims of a token."""
    claims = SenderTokens(ring_of(api)).read(token)
    assert claims
    return claims


def test_a_token_is_valid_for_600_seconds_and_the_leeway() -> None:
    """The clocks of two hosts may differ by up to 5 seconds."""
    tokens, now = SenderTokens(KeyRing.parse(new_key())), utc_now()
    claims = SenderClaims(*(secrets.token_bytes(length) for length in IDS.values()))
    inside, outside = TOKEN_LIFE + LEEWAY - timedelta(seconds=2), TOKEN_LIFE + LEEWAY + timedelta(seconds=1)

    assert (600, 5) == (TOKEN_LIFE.total_seconds(), LEEWAY.total_seconds())
    assert claims == tokens.read(tokens.write(claims, issued_at=now - inside))
    assert None is tokens.read(tokens.write(claims, issued_at=now - outside))


async def test_a_token_that_is_expired_malformed_or_foreign_is_401(sender: Sender) -> None:
    """It resets no state, and the valid token keeps working."""
    api = sender.api
    token = await sender.token()
    claims = claims_of(api, token)
    access_token = await api.sign_up("ann")
    head, payload, signature = token.split(".")
    foreign = SenderTokens(KeyRing.parse(new_key())).write(claims, issued_at=utc_now())
    expired = SenderTokens(ring_of(api)).write(claims, issued_at=utc_now() - TOKEN_LIFE - timedelta(seconds=6))
    access = AccessClaims(claims.user_id, claims.state_id)
    mixed = AccessTokens(ring_of(api)).write(access, issued_at=utc_now(), expires_at=utc_now() + TOKEN_LIFE)

    for bad in (
        *(
            "",
            "x",
            "a.b.c",
            f"{head}.{payload}.",
            f"{head}.{payload}.{signature[:-4]}AAAA",
            token + "x",
            "sp_" + "0" * 72,
        ),
        *(foreign, expired, access_token, mixed),
    ):
        assert (401, "invalid_token") == code(await sender.message(bad, message="x")), bad
    assert (1, 1) == await sender.send(token, "the good one")


async def test_a_senders_token_is_only_for_sending(sender: Sender) -> None:
    """It is no access token, although it is signed by the same master key."""
    token = await sender.token()

    for method, path in (("GET", "/me"), ("GET", "/posts"), ("GET", "/gathered"), ("POST", "/logout")):
        status, answer = await sender.api.call(method, path, token=token)
        assert (401, "invalid_token") == (status, answer["code"])


async def test_a_token_ends_with_the_password(sender: Sender) -> None:
    """Once the password changes or the account is disabled or deleted, the token is rejected and its state removed."""
    api = sender.api
    token = await sender.token()
    session = (await api.login(sender.username))["access_token"]
    change = {"current": PASSWORD, "new": "another password"}
    assert 204 == (await api.call("PUT", "/me/password", change, token=session))[0]

    assert (401, "invalid_token") == code(await sender.message(token, message="x"))
    renewed = replace(sender, password="another password")
    assert (403, "out_of_order") == code(await renewed.authenticate())
    assert (1, 1) == await renewed.send(await renewed.token(), "with the new password")
    assert 204 == (await api.call("DELETE", "/me", {"password": "another password"}, token=session))[0]
    assert [] == await sent(api, await operator_token(api))
    assert 0 == await api.mongo.collection("gathered").count_documents({"count": {"$gt": 0}})
    assert 0 == await api.mongo.collection("gathered_states").count_documents({})
    assert 1 == await api.mongo.collection("gathered_counters").count_documents({})


async def test_a_wrong_password_is_refused_and_may_be_corrected(sender: Sender) -> None:
    """The 403 is the same every time; the sender remains identified and can retry."""
    await sender.token()
    await sender.identify()

    assert (403, "incorrect_password") == code(await replace(sender, password="wrong password").authenticate())
    assert 202 == (await sender.authenticate())[0]


async def test_an_unknown_name_is_not_disclosed(sender: Sender) -> None:
    """Without identification the response is the same, whether or not the account exists."""
    await sender.api.register("ann")

    known = await replace(sender, username="ann").authenticate()
    unknown = await replace(sender, username="nobody").authenticate()

    assert [(403, "out_of_order")] * 2 == [code(known), code(unknown)]
    assert known[1]["detail"] == unknown[1]["detail"]


async def test_wrong_passwords_and_new_names_are_limited(serve: Serve) -> None:
    """By the limits of login and identification, in the protocol's format with Retry-After."""
    rates = {"limit_login_account": "2 per 1 hour", "limit_identify": "2 per 1 hour"}
    sender = Sender(await serve(behind_nginx=True, rate_limits="on", **rates))
    token = await sender.token()
    wrong = replace(sender, password="wrong password")

    assert [403, 403, 429] == [(await wrong.authenticate())[0] for _ in range(3)]
    assert (429, "limit_reached") == code(await sender.authenticate())
    assert (1, 1) == await sender.send(token, "the token is still good")
    names = [replace(sender, username=f"web-{number}") for number in range(2, 5)]
    assert [201, 201, 429] == [(await name.identify())[0] for name in names]
    assert (429, "limit_reached") == code(await sender.identify())


async def test_senders_with_the_right_password_identify_as_often_as_they_like(serve: Serve) -> None:
    """An identification counts until its sender authenticates, and is subtracted only once."""
    rates = {"limit_identify": "3 per 1 hour"}
    sender = Sender(await serve(behind_nginx=True, rate_limits="on", **rates))

    for _ in range(6):
        await sender.token()
    for _ in range(3):
        assert 202 == (await sender.identify())[0]
    assert 429 == (await sender.identify())[0]
    for _ in range(3):
        assert 202 == (await sender.authenticate())[0]
    assert 202 == (await sender.identify())[0]
    assert 429 == (await sender.identify())[0]


async def test_states_expire(sender: Sender) -> None:
    """An identified sender has 10 minutes, an authenticated one the life of its token; MongoDB deletes both."""
    states = sender.api.mongo.collection("gathered_states")
    await sender.identify()
    moment = utc_now() - timedelta(seconds=1)
    past = {"$set": {"expires_at": moment}}
    await states.update_many({}, past)
    assert (403, "out_of_order") == code(await sender.authenticate())

    token = await sender.token()
    document = await states.find_one({})
    assert timedelta(minutes=9) < document["expires_at"] - utc_now() <= timedelta(minutes=10, seconds=5)
    await states.update_many({}, past)
    assert (403, "out_of_order") == code(await sender.message(token, message="x"))
    token = await sender.token()
    await states.update_many({}, {"$set": {"authenticated_until": moment}})
    assert (403, "out_of_order") == code(await sender.message(token, message="x"))
    indexes = await states.index_information()
    assert 0 == indexes["expires_at"]["expireAfterSeconds"]


async def test_states_are_shared_by_all_servers(serve: Serve, sender: Sender) -> None:
    """Each step may go to a different worker, and a logout on one applies to all."""
    other = await serve(
        behind_nginx=True, mongo_database=sender.api.settings.mongo_database, keys=sender.api.settings.keys
    )
    there = replace(sender, api=other)
    await sender.identify()
    token = (await there.authenticate())[1]["token"]

    assert (1, 1) == await sender.send(token, "one")
    assert (2, 2) == await there.send(token, "two")
    await there.message(token, message="logout")
    assert (403, "out_of_order") == code(await sender.message(token, message="three"))


async def test_an_api_token_needs_no_steps(sender: Sender) -> None:
    """With the scope it sends from any address, all lines alike; without the scope, or deleted, it is rejected."""
    api = sender.api
    session = await api.sign_up(sender.username)
    made = {}
    for scope in ("gather", "echo"):
        _, made[scope] = await api.call("POST", "/tokens", {"name": scope, "scopes": [scope]}, token=session)
    token = made["gather"]["token"]

    assert (1, 1) == await sender.send(token, "one", batch="b")
    assert (1, 1) == await replace(sender, address=THERE).send(token, "one", batch="b")
    body = {"message_type": "MESSAGE", "messages": ["one"], "batch": "b"}
    assert 201 == (await api.call("POST", "/message", body, token=token))[0]
    assert (401, "unauthorized") == code(await sender.post("/message", body))
    for number, line in enumerate(("logout", "", "logout"), start=2):
        status, answer = await sender.message(token, message=line, batch=f"line-{number}")
        assert (201, number, number) == (status, answer["first_sequence"], answer["last_sequence"])
    assert (5, 5) == await sender.send(token, "two")
    lines = [(sender.username, number, text) for number, text in enumerate(("one", "logout", "", "logout", "two"), 1)]
    assert lines == await sent(api, await operator_token(api))
    assert (403, "insufficient_scope") == code(await sender.message(made["echo"]["token"], message="x"))
    await api.call("DELETE", f"/tokens/{made['gather']['id']}", token=session)

    async def use() -> int:
        return (await sender.message(token, message="still?"))[0]

    assert await seconds_accepted(use) < 2
    assert (401, "invalid_token") == code(await sender.message(token, message="x"))


async def test_a_batch_is_stored_once(serve: Serve, sender: Sender) -> None:
    """A retry, concurrent or on another worker, gets the same response; another sender's batch is separate."""
    other = replace(
        sender,
        api=await serve(
            behind_nginx=True, mongo_database=sender.api.settings.mongo_database, keys=sender.api.settings.keys
        ),
    )
    token = await sender.token()
    lines = ["one", "two", "three"]

    answers = await asyncio.gather(*((sender, other)[n % 2].send(token, *lines, batch="b-1") for n in range(12)))
    again = await other.send(token, *lines, batch="b-1")
    await sender.send(token, "between")
    much_later = await sender.send(token, *lines, batch="b-1")

    assert {(1, 3)} == {*answers, again, much_later}
    second = replace(sender, username="web-2")
    assert (1, 1) == await second.send(await second.token(), "one", batch="b-1")
    expected = [("web-1", 1, "one"), ("web-1", 2, "two"), ("web-1", 3, "three"), ("web-1", 4, "between")]
    assert [*expected, ("web-2", 1, "one")] == await sent(sender.api, await operator_token(sender.api))


async def test_a_batch_id_for_other_messages_is_refused(sender: Sender) -> None:
    """Nothing is stored, so no message is lost silently."""
    token = await sender.token()
    await sender.send(token, "one", batch="b")

    for messages in (["two"], ["one", "two"], ["one "]):
        assert (409, "batch_reused") == code(await sender.message(token, messages=messages, batch="b"))
    assert (2, 2) == await sender.send(token, "two", batch="c")


async def test_many_senders_at_once_are_numbered_without_gaps(serve: Serve, sender: Sender) -> None:
    """Over 2 workers, with parallel requests of all sizes: numbers of each sender and positions have no gaps."""
    apis = [
        sender.api,
        await serve(
            behind_nginx=True, mongo_database=sender.api.settings.mongo_database, keys=sender.api.settings.keys
        ),
    ]
    senders = [replace(sender, username=f"web-{number}", api=apis[number % 2]) for number in range(8)]
    tokens = await asyncio.gather(*(one.token() for one in senders))

    async def send_all(one: Sender, token: str) -> list[tuple[int, int]]:
        async def send(number: int) -> tuple[int, int]:
            there = replace(one, api=apis[number % 2])
            return await there.send(token, *(f"{one.username} {number}" for _ in range(number % 3 + 1)))

        # A sender may have several requests in flight.
        return await asyncio.gather(*(send(number) for number in range(12)))

    spans = await asyncio.gather(*(send_all(one, token) for one, token in zip(senders, tokens, strict=True)))

    for some in spans:
        assert list(range(1, 25)) == sorted(number for first, last in some for number in range(first, last + 1))
    documents = await sender.api.mongo.collection("gathered").find({}).sort("_id", 1).to_list(None)
    positions = [int.from_bytes(document["_id"], "big") for document in documents]
    assert list(range(1, len(documents) + 1)) == positions
    assert len(documents) < 96
    times = [document["received_at"] for document in documents]
    assert sorted(times) == times
    lines = await sent(sender.api, await operator_token(sender.api))
    for one in senders:
        assert list(range(1, 25)) == [number for username, number, _ in lines if username == one.username]


async def test_large_batches_at_once_are_all_stored(sender: Sender) -> None:
    """Batches too large for one transaction go into several, each request in a single one."""
    token = await sender.token()
    text = "x" * 900_000

    spans = await asyncio.gather(*(sender.send(token, text, str(number)) for number in range(12)))

    assert list(range(1, 25)) == sorted(number for span in spans for number in span)


BAD = {
    "no type": ("/identify", {"username": "web-1"}, "message_type"),
    "another type": ("/identify", {"message_type": "identify", "username": "web-1"}, "message_type"),
    "a short name": ("/identify", {"message_type": "IDENTIFY", "username": "a"}, "username"),
    "a bad name": ("/identify", {"message_type": "IDENTIFY", "username": "a b c"}, "username"),
    "an unknown field": ("/identify", {"message_type": "IDENTIFY", "username": "web-1", "colour": 1}, "colour"),
    "no password": ("/authenticate", {"message_type": "AUTHENTICATE", "username": "web-1"}, "password"),
    "no message": ("/message", {"message_type": "MESSAGE", "token": "x"}, "body"),
    "both": ("/message", {"message_type": "MESSAGE", "token": "x", "message": "x", "messages": ["x"]}, "body"),
    "null": ("/message", {"message_type": "MESSAGE", "token": "x", "message": None}, "message"),
    "an empty list": ("/message", {"message_type": "MESSAGE", "token": "x", "messages": []}, "messages"),
    "not a text": ("/message", {"message_type": "MESSAGE", "token": "x", "messages": ["x", 5]}, "messages.1"),
    "too many": (
        "/message",
        {"message_type": "MESSAGE", "token": "x", "messages": ["x"] * (MOST_MESSAGES + 1)},
        "messages",
    ),
    "an empty batch id": ("/message", {"message_type": "MESSAGE", "token": "x", "message": "x", "batch": ""}, "batch"),
    "a long batch id": (
        "/message",
        {"message_type": "MESSAGE", "token": "x", "message": "x", "batch": "b" * (LONGEST_BATCH_ID + 1)},
        "batch",
    ),
    "a short first password": (
        "/authenticate",
        {"message_type": "AUTHENTICATE", "username": "new-one", "password": "abc"},
        "password",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_invalid_input_gets_a_helpful_error(sender: Sender, name: str) -> None:
    """A 400 in the protocol's format names the field; it is no step, so it resets no state."""
    path, body, field = BAD[name]
    token = await sender.token()
    await replace(sender, username="new-one").identify()

    status, answer = await sender.post(path, body)

    assert (400, "malformed") == (status, answer["code"])
    assert field in [error["field"] for error in answer["errors"]]
    assert (1, 1) == await sender.send(token, "still authenticated")


async def test_missing_and_oversized_bodies_have_the_members_of_the_protocol(sender: Sender) -> None:
    """Every error of the 3 requests has the members of the protocol."""
    for path in ("/identify", "/authenticate", "/message"):
        assert 400 == (await sender.post(path, b""))[0]
        assert 400 == (await sender.post(path, b"{"))[0]
        assert 413 == (await sender.post(path, b"x" * 1_100_000))[0]


async def test_the_largest_batch(sender: Sender) -> None:
    """The largest batch is accepted in full."""
    token = await sender.token()

    assert (1, MOST_MESSAGES) == await sender.send(token, *map(str, range(MOST_MESSAGES)), batch="b" * LONGEST_BATCH_ID)


async def test_an_account_that_is_deleted_meanwhile_leaves_nothing(
    sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message stored after the deletion job has passed is removed."""
    api = sender.api
    token = await sender.token()
    users = api.mongo.collection("users")

    async def stored_too_late(self: object, *arguments: object) -> Any:
        outcome = await store(self, *arguments)
        await users.delete_many({})
        return outcome

    store: Any = BundleStore.add
    monkeypatch.setattr(BundleStore, "add", stored_too_late)

    assert (401, "invalid_token") == code(await sender.message(token, message="x"))
    assert 0 == await api.mongo.collection("gathered").count_documents({"count": {"$gt": 0}})
    assert 0 == await api.mongo.collection("gathered_states").count_documents({})


async def test_an_identification_ends_with_its_account(sender: Sender, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the name belongs to a new account, its owner has to start again."""
    api = sender.api
    await sender.token()

    async def found_too_early(self: object, *arguments: object) -> Any:
        state = await find(self, *arguments)
        await api.mongo.collection("users").delete_many({})
        await api.register(sender.username, PASSWORD)
        return state

    find: Any = SenderStates.find
    monkeypatch.setattr(SenderStates, "find", found_too_early)

    assert (403, "out_of_order") == code(await sender.authenticate())


async def test_nothing_of_a_sender_is_in_plaintext(sender: Sender) -> None:
    """Neither names, addresses, batch ids nor texts are in the database."""
    marks = [f"mark-{secrets.token_hex(8)}" for _ in range(3)]
    one = replace(sender, username=marks[0])
    await one.send(await one.token(), marks[1], batch=marks[2])

    names = await sender.api.mongo.database.list_collection_names()
    stored = [str(await sender.api.mongo.collection(name).find({}).to_list(None)) for name in names]

    assert 4 <= len(stored)
    for mark in (*marks, HERE):
        assert mark not in "".join(stored)


async def test_senders_continue_during_a_key_rotation(serve: Serve) -> None:
    """Workers with and without the new key accept the same states, tokens and batches."""
    # Not a shared server: once a minute, it would notice that it lacks the new key, and refuse the requests of others.
    api = await serve(behind_nginx=True)
    assert api.settings.keys is not None
    old = api.settings.keys.get_secret_value()
    new = new_key()
    both = [
        await serve(behind_nginx=True, mongo_database=api.settings.mongo_database, keys=keys)
        for keys in (f"{old},{new}", f"{new},{old}")
    ]
    behind, front = (Sender(one) for one in both)
    await behind.identify()
    token = (await front.authenticate())[1]["token"]

    assert (1, 1) == await behind.send(token, "one", batch="b")
    assert (1, 1) == await front.send(token, "one", batch="b")
    assert (2, 2) == await front.send(token, "two", batch="c")
    assert (2, 2) == await behind.send(token, "two", batch="c")
    await front.message(token, message="logout")
    assert (403, "out_of_order") == code(await behind.message(token, message="x"))


UNSAFE = "".join(map(chr, (*range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F)))
UNSAFE += "".join(map(chr, (*range(0x2028, 0x202F), *range(0x2066, 0x206A))))


@given(st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from(UNSAFE), max_size=20), min_size=1, max_size=5))
@example([UNSAFE, f"\x9b2J{UNSAFE}\u202e"])
def test_a_message_is_always_one_line(messages: list[str]) -> None:
    """No text contains a line break, however it is encoded, or a terminal's control sequence."""
    delivery = Delivery(user_id=b"u", sequence=7, batch=None, messages=tuple(messages))
    lines = _lines(BundleContent(received_at=utc_now(), deliveries=(delivery,)), {b"u": "web-1"}).decode()

    assert len(messages) == len(lines.splitlines()) == lines.count("\n")
    assert not set(lines) & set(UNSAFE.replace("\n", ""))
    for number, (line, message) in enumerate(zip(lines.splitlines(), messages, strict=True), 7):
        assert ["received_at", "username", "sequence", "message"] == list(json.loads(line))
        assert {"username": "web-1", "sequence": number, "message": message}.items() <= json.loads(line).items()
