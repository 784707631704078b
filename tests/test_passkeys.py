"""Passkeys: adding, signing in, and everything that does neither."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from src.accounts.passkeys.cbor import MOST_NESTED, NotPlain, check_items
from src.accounts.passkeys.ceremonies import (
    Refused,
    RelyingParty,
    credential_id_of,
    verify_assertion,
    verify_creation,
)
from src.accounts.passkeys.store import RESEALABLE, PasskeyContent, PasskeyStore
from src.accounts.reauthentication import RECENT
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing, new_key
from src.core.database.resealing import Resealing

from .authenticators import USER_PRESENT, Authenticator, decode, encode
from .conftest import PASSWORD, Api, altered
from .senders import operator_token
from .test_audit import audited

Serve = Callable[..., Awaitable[Api]]


def authenticator_of(api: Api, count: int = 0) -> Authenticator:
    """Return an authenticator without a passkey yet, in a browser that shows the page of the server."""
    return Authenticator(f"http://{api.client.host}:{api.client.port}", count)


async def creation(api: Api, token: str, authenticator: Authenticator) -> dict[str, Any]:
    """Let an authenticator create a passkey, and return the request that adds it."""
    status, answer = await api.call("POST", "/passkeys/options", {"password": PASSWORD}, token=token)

    assert 200 == status
    return {
        "challenge": answer["challenge"],
        "name": "My laptop",
        "credential": authenticator.create(answer["options"]),
    }


async def add(api: Api, token: str, authenticator: Authenticator) -> Any:
    """Add a passkey to an account and return the answer."""
    status, passkey = await api.call("POST", "/passkeys", await creation(api, token, authenticator), token=token)

    assert 201 == status
    return passkey


async def assertion(api: Api, authenticator: Authenticator) -> dict[str, Any]:
    """Let an authenticator answer a challenge, and return the request that signs in."""
    status, answer = await api.call("POST", "/login/passkey/options")

    assert 200 == status
    return {"challenge": answer["challenge"], "credential": authenticator.get(answer["options"])}


async def sign_in(api: Api, authenticator: Authenticator) -> tuple[int, Any]:
    """Sign in by a passkey."""
    return await api.call("POST", "/login/passkey", await assertion(api, authenticator))


async def make_old(api: Api) -> None:
    """Make all sessions too old to confirm changes of the account."""
    began = utc_now() - RECENT - timedelta(seconds=1)
    await api.mongo.collection("sessions").update_many({}, {"$set": {"created_at": began}})


async def test_a_passkey_signs_in(api: Api) -> None:
    """The session is one of the account, and the list has the last use."""
    token = await api.sign_up()
    authenticator = authenticator_of(api)

    passkey = await add(api, token, authenticator)
    status, tokens = await sign_in(api, authenticator)

    assert 200 == status
    _, me = await api.call("GET", "/me", token=tokens["access_token"])
    assert ("ann", ["password", "passkey"]) == (me["username"], me["sign_in"])
    _, listed = await api.call("GET", "/passkeys", token=tokens["access_token"])
    [only] = listed["passkeys"]
    # Not as text: a whole second has no fraction.
    assert datetime.fromisoformat(passkey["created_at"]) <= datetime.fromisoformat(only["last_used_at"])
    assert {**passkey, "last_used_at": only["last_used_at"]} == only
    assert 200 == (await api.call("POST", "/refresh", {"refresh_token": tokens["refresh_token"]}))[0]


async def test_signing_in_with_the_cookie(api: Api) -> None:
    """The cookie carries the refresh token, only for the page itself."""
    authenticator = authenticator_of(api)
    await add(api, await api.sign_up(), authenticator)
    body = {**await assertion(api, authenticator), "cookie": True}

    status, problem = await api.call("POST", "/login/passkey", body)
    assert (403, "cross_site") == (status, problem["code"])
    async with api.client.post("/login/passkey", json=body, headers={"Origin": authenticator.origin}) as answer:
        assert 200 == answer.status
        assert "refresh_token" not in await answer.json()
        assert "sealpost" in answer.cookies


async def test_the_options_are_for_discoverable_passkeys_with_user_verification(serve: Serve) -> None:
    """They name the host of the public URL, and exclude the passkeys that the account has."""
    api = await serve(public_url="https://sealpost.example:8443/under/it", brand_name="Our secrets")
    token = (await api.call("POST", "/register", {"username": "ann", "password": PASSWORD}, token=""))[1]
    token = (await api.login())["access_token"]
    authenticator = Authenticator("https://sealpost.example:8443")
    await add(api, token, authenticator)

    _, creating = await api.call("POST", "/passkeys/options", {}, token=token)
    _, requesting = await api.call("POST", "/login/passkey/options")

    options = creating["options"]
    assert {"id": "sealpost.example", "name": "Our secrets"} == options["rp"]
    assert ("required", "required") == tuple(
        options["authenticatorSelection"][name] for name in ("residentKey", "userVerification")
    )
    assert [encode(authenticator.credential_id)] == [one["id"] for one in options["excludeCredentials"]]
    assert [-7, -8, -257] == [one["alg"] for one in options["pubKeyCredParams"]]
    assert ("sealpost.example", "required", []) == tuple(
        requesting["options"][name] for name in ("rpId", "userVerification", "allowCredentials")
    )
    assert 200 == (await sign_in(api, authenticator))[0]


def other_origin(authenticator: Authenticator) -> Authenticator:
    """Let a page of another site ask for the answer."""
    return replace(authenticator, origin="https://elsewhere.example")


FOREIGN: dict[str, Callable[[Authenticator], Authenticator]] = {
    "the page of another site": other_origin,
    "the page of another port": lambda one: replace(one, origin="http://127.0.0.1:1"),
    "another host": lambda one: replace(one, rp_id="elsewhere.example"),
    "no user verification": lambda one: replace(one, flags=USER_PRESENT),
    "no user": lambda one: replace(one, flags=0),
}


@pytest.mark.parametrize("changed", FOREIGN.values(), ids=FOREIGN)
async def test_passkeys_work_only_here_and_for_a_verified_user(
    api: Api, changed: Callable[[Authenticator], Authenticator]
) -> None:
    """Neither can such a passkey be added, nor does an existing one sign in like that."""
    token = await api.sign_up()
    authenticator = authenticator_of(api)
    await add(api, token, authenticator)

    refused = await sign_in(api, changed(authenticator))
    added = await api.call("POST", "/passkeys", await creation(api, token, changed(authenticator_of(api))), token=token)

    assert (401, "passkey_refused") == (refused[0], refused[1]["code"])
    assert (400, "invalid_passkey") == (added[0], added[1]["code"])
    assert 200 == (await sign_in(api, authenticator))[0]
    assert 1 == await api.mongo.collection("passkeys").count_documents({})


STRANGE: dict[str, Callable[[Authenticator], Authenticator]] = {
    "an unknown passkey": lambda one: replace(one, credential_id=b"unknown"),
    "the private key of another one": lambda one: replace(one, key=Authenticator("").key),
    "the name of another user": lambda one: replace(one, user_handle=bytes(16)),
    "no name": lambda one: replace(one, user_handle=b""),
}


@pytest.mark.parametrize("changed", STRANGE.values(), ids=STRANGE)
async def test_no_other_passkey_signs_in(api: Api, changed: Callable[[Authenticator], Authenticator]) -> None:
    """All of them get the same response, which does not say why."""
    authenticator = authenticator_of(api)
    await add(api, await api.sign_up(), authenticator)

    status, problem = await sign_in(api, changed(authenticator))

    assert (401, "passkey_refused") == (status, problem["code"])
    assert 1 == await api.mongo.collection("sessions").count_documents({})


async def test_a_challenge_works_once_and_for_its_purpose(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A used, foreign, made-up or expired challenge neither signs in nor adds a passkey."""
    token, bob = await api.sign_up(), await api.sign_up("bob")
    other_session = (await api.login())["access_token"]
    authenticator = authenticator_of(api)
    creating = await creation(api, token, authenticator)
    for foreign in (bob, other_session):
        assert (400, "invalid_passkey") == await outcome(api, "/passkeys", creating, foreign)
    assert 201 == (await api.call("POST", "/passkeys", creating, token=token))[0]
    assert (400, "invalid_passkey") == await outcome(api, "/passkeys", creating, token)

    signing_in = await assertion(api, authenticator)
    assert 200 == (await api.call("POST", "/login/passkey", signing_in))[0]

    for challenge in (signing_in["challenge"], creating["challenge"], signing_in["challenge"][:-1], "", "a.b.c"):
        again = {**signing_in, "challenge": challenge}
        assert (401, "passkey_refused") == await outcome(api, "/login/passkey", again)
        assert (400, "invalid_passkey") == await outcome(api, "/passkeys", {**creating, "challenge": challenge}, token)
    monkeypatch.setattr("src.accounts.passkeys.challenges.LIFE", timedelta(seconds=-10))
    expired = await assertion(api, authenticator), await creation(api, token, authenticator_of(api))
    assert (401, "passkey_refused") == await outcome(api, "/login/passkey", expired[0])
    assert (400, "invalid_passkey") == await outcome(api, "/passkeys", expired[1], token)


async def outcome(api: Api, path: str, body: Any, token: str = "") -> tuple[int, str]:
    """Send a request that is refused, and return the status and the code."""
    status, problem = await api.call("POST", path, body, token=token)
    return status, problem["code"]


async def test_asking_for_options_stores_nothing(serve: Serve) -> None:
    """Strangers may ask as often as nginx lets them; refused answers leave nothing but a count."""
    # The audit would store its events at a time of its own.
    api = await serve(audit_ttl=0)
    await api.sign_up()

    async def documents() -> dict[str, int]:
        names = await api.mongo.database.list_collection_names()
        return {name: await api.mongo.database[name].count_documents({}) for name in names}

    before = await documents()
    for _ in range(3):
        assert 401 == (await sign_in(api, authenticator_of(api)))[0]

    assert before == await documents()


async def test_a_counter_that_does_not_increase_is_refused(api: Api) -> None:
    """The original continues, its copy is refused and logged."""
    original = authenticator_of(api, count=5)
    await add(api, await api.sign_up(), original)
    copy = replace(original)
    assert 200 == (await sign_in(api, original))[0]

    with capture_logs() as entries:
        assert (401, "passkey_refused") == await outcome(api, "/login/passkey", await assertion(api, copy))

    assert ["passkey with an old counter refused"] == [one["event"] for one in entries if one["log_level"] == "warning"]
    assert 200 == (await sign_in(api, original))[0]
    # An authenticator that had a counter does not lose it.
    assert 401 == (await sign_in(api, replace(original, count=0)))[0]


async def test_of_parallel_answers_with_one_counter_one_signs_in(serve: Serve) -> None:
    """Comparing and storing the counter is one step, on 2 servers; without a counter, both sign in."""
    one = await serve(public_url="https://sealpost.example")
    other = await serve(
        public_url="https://sealpost.example", mongo_database=one.settings.mongo_database, keys=one.settings.keys
    )
    token = await one.sign_up()
    for count, expected in ((1, [200, 401]), (0, [200, 200])):
        authenticator = Authenticator("https://sealpost.example", count)
        await add(one, token, authenticator)
        for _ in range(10):
            copy = replace(authenticator)
            answers = [await assertion(one, authenticator), await assertion(one, copy)]

            results = await asyncio.gather(
                *(api.call("POST", "/login/passkey", answer) for api, answer in zip((one, other), answers, strict=True))
            )

            assert expected == sorted(status for status, _ in results)


async def test_a_user_has_at_most_so_many_passkeys(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parallel requests exceed the limit no more than others, and one passkey is not added twice."""
    monkeypatch.setattr("src.accounts.passkeys.service.MOST_PASSKEYS", 3)
    token = await api.sign_up()
    first = authenticator_of(api)
    await add(api, token, first)
    assert (409, "passkey_exists") == await outcome(api, "/passkeys", await creation(api, token, first), token)
    bodies = [await creation(api, token, authenticator_of(api)) for _ in range(5)]

    results = await asyncio.gather(*(api.call("POST", "/passkeys", body, token=token) for body in bodies))

    assert [201, 201, 409, 409, 409] == sorted(status for status, _ in results)
    assert {"too_many_passkeys"} == {answer["code"] for status, answer in results if status == 409}
    assert (409, "too_many_passkeys") == await outcome(api, "/passkeys/options", {}, token)


async def test_users_rename_and_delete_only_their_own_passkeys(api: Api) -> None:
    """Deleting requires the password; a deleted passkey does not sign in."""
    token, bob = await api.sign_up(), await api.sign_up("bob")
    authenticator = authenticator_of(api)
    path = f"/passkeys/{(await add(api, token, authenticator))['id']}"

    status, renamed = await api.call("PATCH", path, {"name": "Büro 🔑"}, token=token)
    assert (200, "Büro 🔑") == (status, renamed["name"])
    _, listed = await api.call("GET", "/passkeys", token=token)
    assert [renamed] == listed["passkeys"]
    for name in ("", "x" * 65, None):
        assert 400 == (await api.call("PATCH", path, {"name": name}, token=token))[0]
    for method, body in (("PATCH", {"name": "mine"}), ("DELETE", {"password": PASSWORD})):
        status, problem = await api.call(method, path, body, token=bob)
        assert (404, "passkey_not_found") == (status, problem["code"])
    for body, code in (({}, "malformed"), ({"password": "wrong"}, "incorrect_password")):
        assert code == (await api.call("DELETE", path, body, token=token))[1]["code"]
    assert 204 == (await api.call("DELETE", path, {"password": PASSWORD}, token=token))[0]
    assert (401, "passkey_refused") == await outcome(api, "/login/passkey", await assertion(api, authenticator))


async def test_an_account_without_a_password(api: Api) -> None:
    """It signs in by its passkey only, keeps it as the last way, and can set a password again."""
    token = await api.sign_up()
    other = (await api.login())["access_token"]
    authenticator = authenticator_of(api)
    passkey = await add(api, token, authenticator)

    assert 204 == (await api.call("DELETE", "/me/password", {"current": PASSWORD}, token=token))[0]

    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": PASSWORD}))[0]
    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": ""}))[0]
    _, sessions = await api.call("GET", "/sessions", token=token)
    assert [True] == [session["current"] for session in sessions["sessions"]], other
    token = (await sign_in(api, authenticator))[1]["access_token"]
    assert ["passkey"] == (await api.call("GET", "/me", token=token))[1]["sign_in"]
    assert 204 == (await api.call("DELETE", "/me/password", {}, token=token))[0]
    path = f"/passkeys/{passkey['id']}"
    status, problem = await api.call("DELETE", path, {}, token=token)
    assert (409, "last_way_to_sign_in") == (status, problem["code"])
    assert 204 == (await api.call("PUT", "/me/password", {"new": "three other words"}, token=token))[0]
    await api.login("ann", "three other words")
    assert 204 == (await api.call("DELETE", path, {"password": "three other words"}, token=token))[0]


async def test_changes_without_a_password_need_a_recent_sign_in(api: Api) -> None:
    """Refreshing the session is not enough, signing in again is."""
    token = await api.sign_up()
    authenticator = authenticator_of(api)
    path = f"/passkeys/{(await add(api, token, authenticator))['id']}"
    await make_old(api)
    assert (403, "sign_in_again") == await outcome(api, "/passkeys/options", {}, token)
    await creation(api, token, authenticator_of(api))  # with the password
    assert 204 == (await api.call("DELETE", "/me/password", {"current": PASSWORD}, token=token))[0]
    pair = (await sign_in(api, authenticator))[1]
    await make_old(api)
    pair = (await api.call("POST", "/refresh", {"refresh_token": pair["refresh_token"]}))[1]

    requests: list[tuple[str, str, Any]] = [
        ("POST", "/passkeys/options", {"password": PASSWORD}),
        ("DELETE", path, {}),
        ("PUT", "/me/password", {"new": PASSWORD}),
        ("DELETE", "/me/password", {}),
        ("DELETE", "/me", {}),
    ]
    for method, changing, body in requests:
        status, problem = await api.call(method, changing, body, token=pair["access_token"])
        assert (403, "sign_in_again") == (status, problem["code"]), changing

    token = (await sign_in(api, authenticator))[1]["access_token"]
    assert 204 == (await api.call("DELETE", "/me", {}, token=token))[0]
    assert 0 == await api.mongo.collection("passkeys").count_documents({})
    assert 401 == (await sign_in(api, authenticator))[0]


async def test_of_two_ways_removed_at_once_one_stays(serve: Serve) -> None:
    """The password on one server, the passkey on another; 10 races."""
    one = await serve(public_url="https://sealpost.example")
    other = await serve(
        public_url="https://sealpost.example", mongo_database=one.settings.mongo_database, keys=one.settings.keys
    )
    for number in range(10):
        token = await one.sign_up(f"user-{number}")
        path = f"/passkeys/{(await add(one, token, Authenticator('https://sealpost.example')))['id']}"

        (removed, _), (deleted, _) = await asyncio.gather(
            one.call("DELETE", "/me/password", {"current": PASSWORD}, token=token),
            other.call("DELETE", path, {"password": PASSWORD}, token=token),
        )

        assert 204 in {removed, deleted}
        assert {removed, deleted} - {204} <= {409, 403}, (removed, deleted)
        _, me = await one.call("GET", "/me", token=token)
        assert 1 == len(me["sign_in"])


async def test_a_disabled_account_is_refused_only_after_its_passkey_is_right(api: Api) -> None:
    """Others do not learn that it is disabled."""
    operator = await operator_token(api)
    token = await api.sign_up()
    authenticator = authenticator_of(api)
    await add(api, token, authenticator)
    user_id = (await api.call("GET", "/me", token=token))[1]["user_id"]
    assert 200 == (await api.call("PATCH", f"/users/{user_id}", {"disabled": True}, token=operator))[0]

    assert (403, "account_disabled") == await outcome(api, "/login/passkey", await assertion(api, authenticator))
    stranger = replace(authenticator, key=Authenticator("").key)
    assert (401, "passkey_refused") == await outcome(api, "/login/passkey", await assertion(api, stranger))


async def test_a_passkey_added_during_the_deletion_of_the_account_is_erased(api: Api) -> None:
    """The deletion may have passed the collection before the passkey was stored."""
    token = await api.sign_up()
    body = await creation(api, token, authenticator_of(api))
    await api.mongo.collection("users").update_one({}, {"$set": {"deleting_at": utc_now()}})

    assert (401, "invalid_token") == await outcome(api, "/passkeys", body, token)

    assert 0 == await api.mongo.collection("passkeys").count_documents({})
    assert (401, "invalid_token") == await outcome(api, "/passkeys/options", {}, token)


async def test_refused_passkeys_count_as_wrong_passwords_of_the_address(serve: Serve) -> None:
    """Above the limit, a good passkey is refused as well; good ones never count."""
    api = await serve(rate_limits="on", limit_login_address="3 per 1 hour")
    authenticator = authenticator_of(api)
    await add(api, await api.sign_up(), authenticator)
    stranger = replace(authenticator, key=Authenticator("").key)

    statuses = [(await sign_in(api, one))[0] for one in (authenticator, *[stranger] * 3, authenticator)]

    assert [200, 401, 401, 401, 429] == statuses
    assert 429 == (await api.call("POST", "/login", {"username": "ann", "password": PASSWORD}))[0]


async def test_passkeys_survive_a_rotation_of_keys(serve: Serve) -> None:
    """After all data is encrypted again, the old key is not needed to find and use them."""
    old, new = new_key(), new_key()
    before = await serve(keys=old, public_url="https://sealpost.example")
    authenticator = Authenticator("https://sealpost.example")
    token = await before.sign_up()
    await add(before, token, authenticator)
    both = f"{new},{old}"
    # Whichever key it was added under, a passkey is there once.
    during = await serve(
        keys=both, mongo_database=before.settings.mongo_database, public_url="https://sealpost.example"
    )
    again = await creation(during, token, authenticator)
    assert (409, "passkey_exists") == await outcome(during, "/passkeys", again, token)

    resealed = await Resealing(during.mongo, KeyRing.parse(both), (RESEALABLE,), ()).run(lambda *_: None)

    assert [1] == [one.changed for one in resealed]
    document = await during.mongo.collection("passkeys").find_one()
    assert new.partition(":")[0] == document["key_id"]
    store = PasskeyStore(during.mongo, KeyRing.parse(new))
    assert await store.find(authenticator.credential_id)
    assert 200 == (await sign_in(during, authenticator))[0]


async def test_a_changed_passkey_does_not_sign_in(api: Api) -> None:
    """Someone with write access to the database can break a passkey, and not give it to another user."""
    token, bob = await api.sign_up(), await api.sign_up("bob")
    authenticator = authenticator_of(api)
    path = f"/passkeys/{(await add(api, token, authenticator))['id']}"
    passkeys = api.mongo.collection("passkeys")
    document = await passkeys.find_one()
    bob_id = bytes.fromhex((await api.call("GET", "/me", token=bob))[1]["user_id"])

    for change in ({"user_id": bob_id}, {"envelope": altered(document["envelope"])}, {"key_id": "none"}):
        await passkeys.update_one({}, {"$set": change})
        assert (401, "passkey_refused") == await outcome(api, "/login/passkey", await assertion(api, authenticator))
        for one in (token, bob):
            assert [] == (await api.call("GET", "/passkeys", token=one))[1]["passkeys"]
            assert ["password"] == (await api.call("GET", "/me", token=one))[1]["sign_in"]
            assert 404 == (await api.call("PATCH", path, {"name": "x"}, token=one))[0]
        await passkeys.replace_one({}, document)
    assert 200 == (await sign_in(api, authenticator))[0]


PARTY = RelyingParty("sealpost.example", "https://sealpost.example", "Sealpost")
OPTIONS = {
    "rp": {"id": PARTY.host},
    "rpId": PARTY.host,
    "user": {"id": encode(bytes(16))},
    "challenge": encode(b"challenge"),
}
SAMPLE = Authenticator(PARTY.origin)
CREATED, ANSWERED = SAMPLE.create(OPTIONS), SAMPLE.get(OPTIONS)


def created(credential: Any) -> PasskeyContent:
    """Return the passkey in a credential."""
    return verify_creation(PARTY, credential, user_id=bytes(16), challenge=b"challenge", name="sample")[0]


PASSKEY = created(CREATED)
NAMES = st.sampled_from(
    (
        "id",
        "rawId",
        "type",
        "response",
        "transports",
        "clientDataJSON",
        "attestationObject",
        "authenticatorData",
        "signature",
        "userHandle",
    )
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(max_size=80).map(encode),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=6),
    max_leaves=12,
)
PLAIN: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.binary(max_size=300) | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 99), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, JSON, max_size=6), st.sampled_from([CREATED, ANSWERED]), st.data())
def test_hostile_credentials_are_refused(changes: dict[str, Any], sample: dict[str, Any], data: st.DataObject) -> None:
    """With any JSON in place of any part, and with any byte changed, nothing is raised but the refusal."""
    response = {**sample["response"], **changes}
    name = data.draw(st.sampled_from(["attestationObject", "authenticatorData", "clientDataJSON", "signature"]))
    if isinstance(text := sample["response"].get(name), str):
        value = bytearray(decode(text))
        value[data.draw(st.integers(0, len(value) - 1))] ^= data.draw(st.integers(1, 255))
        changed = {**sample, "response": {**sample["response"], name: encode(bytes(value))}}
        # A byte of an authenticator's model or of the length of unused text may change without consequence.
        with suppress(Refused):
            created(changed)
        with suppress(Refused):
            verify_assertion(PARTY, changed, passkey=PASSKEY, challenge=b"challenge")
    for credential in ({**sample, "response": response}, {**sample, **changes}, changes):
        with suppress(Refused):
            created(credential)
        with suppress(Refused):
            verify_assertion(PARTY, credential, passkey=PASSKEY, challenge=b"challenge")
    assert isinstance(credential_id_of(changes), bytes | None)


@pytest.mark.parametrize(
    "changes",
    [
        {"fmt": "packed", "attStmt": {"alg": -7, "sig": b"", "x5c": [b"certificate"]}},
        {"fmt": "tpm"},
        {"fmt": ["none"]},
        {"attStmt": {"sig": b"signature"}},
        {"attStmt": None},
        {"authData": None},
        {"authData": b""},
    ],
)
def test_other_attestations_are_refused(changes: dict[str, Any]) -> None:
    """Certificates are not parsed, and broken objects are no crash."""
    with pytest.raises(Refused):
        created(SAMPLE.create(OPTIONS, **changes))


def test_a_long_key_or_id_is_refused() -> None:
    """A modulus of RSA that makes every verification slow, and an id that no authenticator has."""
    data = decode(CREATED["response"]["attestationObject"])
    attested = cbor2.loads(data)["authData"]
    key = cbor2.dumps({1: 3, 3: -257, -1: b"\xff" * 1500, -2: b"\x01\x00\x01"})
    slow = attested[: 37 + 18 + 32] + key

    for credential in (
        SAMPLE.create(OPTIONS, authData=slow),
        replace(SAMPLE, credential_id=bytes(1024)).create(OPTIONS),
    ):
        with pytest.raises(Refused):
            created(credential)


@given(PLAIN)
def test_plain_cbor_is_accepted(value: Any) -> None:
    """Everything that authenticators may send."""
    if depth(value) <= MOST_NESTED:
        check_items(cbor2.dumps(value))


def depth(value: Any) -> int:
    """Return how deep a value is nested."""
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + depth(one) for one in inner), default=0)


@pytest.mark.parametrize(
    "data",
    [
        b"\xd8\x1c\x80",  # a shared value
        b"\xd8\x23\x63(a)",  # a regular expression
        b"\x9f\xff",  # of indefinite length
        b"\x81" * 9 + b"\x00",  # nested too deeply
        b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00",  # 4 billion items
        b"\x5a\xff\xff\xff\xff",  # 4 GiB
        b"\x82\x00",
        b"\x19\x00",
        b"\x1c",
    ],
)
def test_other_cbor_is_refused(data: bytes) -> None:
    """What only an attacker sends is not decoded."""
    with pytest.raises(NotPlain):
        check_items(data)


@pytest.mark.parametrize("credential", [{}, {"id": 1}, {"id": "é"}, {"response": []}, {"id": "A" * 60_000}, CREATED])
async def test_hostile_credentials_get_a_clear_response(api: Api, credential: dict[str, Any]) -> None:
    """A credential of any form is refused with a code."""
    token = await api.sign_up()
    _, creating = await api.call("POST", "/passkeys/options", {}, token=token)
    _, signing_in = await api.call("POST", "/login/passkey/options")

    adding = {"challenge": creating["challenge"], "name": "x", "credential": credential}
    assert (400, "invalid_passkey") == await outcome(api, "/passkeys", adding, token)
    answer = {"challenge": signing_in["challenge"], "credential": credential}
    assert (401, "passkey_refused") == await outcome(api, "/login/passkey", answer)


async def test_sign_ins_by_passkey_are_audited(api: Api) -> None:
    """Adding, signing in, failing to and deleting; failures name the account of the passkey."""
    operator = await operator_token(api)
    token = await api.sign_up()
    authenticator = authenticator_of(api)
    passkey = await add(api, token, authenticator)
    await sign_in(api, replace(authenticator, key=Authenticator("").key))
    await sign_in(api, replace(authenticator, credential_id=b"unknown"))
    await sign_in(api, authenticator)
    await api.call("DELETE", f"/passkeys/{passkey['id']}", {"password": PASSWORD}, token=token)

    lines = await audited(api, operator, 6, user="ann")

    assert [
        ("registered", None),
        ("signed_in", "password"),
        ("passkey_added", None),
        ("sign_in_failed", "passkey"),
        ("signed_in", "passkey"),
        ("passkey_deleted", None),
    ] == [(line["kind"], line.get("method")) for line in lines]
