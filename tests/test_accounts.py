"""Accounts, from registration to deletion."""

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest

from src.accounts.passwords import Passwords, hash_password
from src.accounts.sessions import SessionStore
from src.accounts.users import KIND, UserContent
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.crypto.records import RecordSealer

from .conftest import PASSWORD, Api
from .processes import PATIENCE

Serve = Callable[..., Awaitable[Api]]


async def test_a_user_registers_signs_in_and_sees_the_account(api: Api) -> None:
    """The responses follow the contract and include the times."""
    status, registered = await api.call("POST", "/register", {"username": "Ann.B-c_1", "password": PASSWORD})

    assert (201, "Ann.B-c_1") == (status, registered["username"])
    tokens = await api.login("Ann.B-c_1")
    assert ("Bearer", 600) == (tokens["token_type"], tokens["expires_in"])
    status, me = await api.call("GET", "/me", token=tokens["access_token"])
    assert (200, registered["user_id"], "Ann.B-c_1") == (status, me["user_id"], me["username"])
    created_at, last_login_at = (datetime.fromisoformat(me[name]) for name in ("created_at", "last_login_at"))
    assert created_at <= last_login_at <= datetime.fromisoformat(me["last_request_at"])


async def test_names_are_case_insensitive(api: Api) -> None:
    """A name is taken, and signs in, in upper and lower case."""
    await api.register("Ann")

    status, problem = await api.call("POST", "/register", {"username": "aNN", "password": PASSWORD})

    assert (409, "username_taken") == (status, problem["code"])
    await api.login("ANN")


async def test_of_a_hundred_registrations_of_one_name_one_succeeds(serve: Serve) -> None:
    """A race in different case on 2 servers creates a single account."""
    one = await serve()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    names = ["".join(letters) for letters in itertools.product("Ss", "Oo", "Pp", "Hh", "Ii", "Ee", "aA")][:100]

    async def register(api: Api, name: str) -> int:
        return (await api.call("POST", "/register", {"username": name, "password": PASSWORD}))[0]

    statuses = await asyncio.gather(*(register(api, name) for name, api in zip(names, itertools.cycle((one, other)))))

    assert [201] + [409] * 99 == sorted(statuses)
    assert 1 == await one.mongo.collection("users").count_documents({})


@pytest.mark.parametrize(
    ("username", "password"),
    [
        *((username, PASSWORD) for username in ("ab", "a" * 33, "ann!", "änn", "ann\n", "", None, 123)),
        *(("ann", password) for password in ("seven77", "x" * 1025, None, 12345678)),
    ],
)
async def test_invalid_names_and_passwords_are_rejected(api: Api, username: object, password: object) -> None:
    """The response names the field and does not repeat its value."""
    status, problem = await api.call("POST", "/register", {"username": username, "password": password})

    assert (400, "malformed") == (status, problem["code"])
    assert 0 == await api.mongo.collection("users").count_documents({})


async def test_unknown_user_and_wrong_password_get_the_same_answer(api: Api) -> None:
    """Status, text and headers do not disclose whether an account exists, nor for an invalid name."""
    await api.register()

    answers = [
        await api.call("POST", "/login", {"username": username, "password": password})
        for username, password in (("ann", "wrong"), ("nobody", "wrong"), ("no name at all!", ""), ("ann", ""))
    ]

    assert {401} == {status for status, _ in answers}
    for _, problem in answers:
        problem.pop("request_id")
        assert answers[0][1] == problem


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic YW5uOnB3", "Bearer a.b.c", "bearer sp_", "Bearer é"]
)
async def test_protected_routes_require_credentials(api: Api, header: str) -> None:
    """Every protected route answers 401 and says how to sign in."""
    app = api.client.app
    assert app is not None
    document = (await api.send("GET", "/openapi.json")).json()
    guarded = [
        (method.upper(), re.sub(r"{\w+_id}", "0" * 32, path))
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if {} not in operation.get("security", [{}])
    ]

    assert 9 <= len(guarded)
    for method, path in guarded:
        answer = await api.send(method, path, b"{", **({"Authorization": header} if header else {}))
        assert 401 == answer.status, (method, path)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_signing_out_ends_the_session(api: Api) -> None:
    """Its access token and refresh token stop working; another session continues."""
    await api.register()
    mine, other = await api.login(), await api.login()

    status, _ = await api.call("POST", "/logout", token=mine["access_token"])

    assert 204 == status
    assert 401 == (await api.call("GET", "/me", token=mine["access_token"]))[0]
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": mine["refresh_token"]}))[0]
    assert 200 == (await api.call("GET", "/me", token=other["access_token"]))[0]


async def test_a_user_sees_and_ends_only_their_own_sessions(api: Api) -> None:
    """Another user's session is not found, and continues."""
    ann, bob = await api.sign_up("ann"), await api.sign_up("bob")
    second = (await api.login("ann"))["access_token"]

    _, listed = await api.call("GET", "/sessions", token=ann)
    _, of_bob = await api.call("GET", "/sessions", token=bob)

    assert [False, True] == [session["current"] for session in listed["sessions"]]
    assert 1 == len(of_bob["sessions"])
    path = f"/sessions/{of_bob['sessions'][0]['id']}"
    assert 404 == (await api.call("DELETE", path, token=ann))[0]
    assert 204 == (await api.call("DELETE", f"/sessions/{listed['sessions'][0]['id']}", token=ann))[0]
    assert 404 == (await api.call("DELETE", f"/sessions/{listed['sessions'][0]['id']}", token=ann))[0]
    assert 401 == (await api.call("GET", "/me", token=second))[0]
    assert 200 == (await api.call("GET", "/me", token=bob))[0]
    for malformed in ("x", "é" * 32, "G" * 32, "0" * 31):
        assert 404 == (await api.call("DELETE", f"/sessions/{malformed}", token=ann))[0]


async def test_the_oldest_session_is_replaced(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user never has more sessions than allowed, and the newest remain."""
    monkeypatch.setattr("src.accounts.sessions.MOST_SESSIONS", 2)
    await api.register()

    pairs = [await api.login() for _ in range(4)]

    statuses = [(await api.call("POST", "/refresh", {"refresh_token": p["refresh_token"]}))[0] for p in pairs]
    assert [401, 401, 200, 200] == statuses


async def test_parallel_logins_leave_as_many_sessions_as_a_user_may_have(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exactly as many, even if sessions start on 2 servers in the same millisecond."""
    monkeypatch.setattr("src.accounts.sessions.MOST_SESSIONS", 5)
    moment = utc_now()
    monkeypatch.setattr("src.core.clock.DatabaseClock.now", lambda _: moment)
    one = await serve()
    other = await serve(mongo_database=one.settings.mongo_database, keys=one.settings.keys)
    await one.register()

    pairs = await asyncio.gather(*((one, other)[number % 2].login() for number in range(30)))

    statuses = [(await one.call("POST", "/refresh", {"refresh_token": p["refresh_token"]}))[0] for p in pairs]
    assert [200] * 5 + [401] * 25 == sorted(statuses)


async def test_a_new_password_replaces_the_old_one_and_ends_other_sessions(api: Api) -> None:
    """The session that changed it continues, all others end, and only the new password signs in."""
    await api.register()
    mine, other = await api.login(), await api.login()
    new = "another long password"

    status, _ = await api.call("PUT", "/me/password", {"current": PASSWORD, "new": new}, token=mine["access_token"])

    assert 204 == status
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": other["refresh_token"]}))[0]
    assert 200 == (await api.call("POST", "/refresh", {"refresh_token": mine["refresh_token"]}))[0]
    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": PASSWORD}))[0]
    await api.login(password=new)


async def test_the_current_password_is_required(api: Api) -> None:
    """An open session alone is not enough to change the password or delete the account."""
    token = await api.sign_up()

    for method, path, body in (
        ("PUT", "/me/password", {"current": "wrong password", "new": "another long password"}),
        ("DELETE", "/me", {"password": "wrong password"}),
    ):
        status, problem = await api.call(method, path, body, token=token)
        assert (403, "incorrect_password") == (status, problem["code"])
    await api.login()


@pytest.mark.parametrize(
    ("one", "other"),
    [("x" * 99 + "a", "x" * 99 + "b"), ("before\0after1", "before\0after2"), ("p\u0308assword", "password")],
)
async def test_no_part_of_a_password_is_ignored(api: Api, one: str, other: str) -> None:
    """Characters past byte 72, after a NUL, and accents all count."""
    await api.register(password=one)

    assert 401 == (await api.call("POST", "/login", {"username": "ann", "password": other}))[0]
    await api.login(password=one)


async def test_a_password_is_the_same_from_every_keyboard(api: Api) -> None:
    """Composed and decomposed characters are the same password (NFC)."""
    await api.register(password="zwölf Boxkämpfer")

    await api.login(password="zwo\u0308lf Boxka\u0308mpfer")


async def test_a_hash_of_lower_cost_is_replaced_at_the_next_sign_in(serve: Serve) -> None:
    """A higher cost reaches every account that is used, and locks out none."""
    before = await serve(bcrypt_cost=4)
    await before.register()
    document = await before.mongo.collection("users").find_one({})
    after = await serve(mongo_database=before.settings.mongo_database, keys=before.settings.keys, bcrypt_cost=5)

    await asyncio.gather(*(after.login() for _ in range(3)))

    replaced = await before.mongo.collection("users").find_one({})
    assert document["envelope"] != replaced["envelope"]
    await after.login()
    assert replaced["envelope"] == (await before.mongo.collection("users").find_one({}))["envelope"]
    await before.login()


async def test_last_activity_is_recorded(api: Api) -> None:
    """A request updates the time of the last activity without waiting for that write."""
    token = await api.sign_up()
    users = api.mongo.collection("users")
    past = datetime.fromisoformat("2020-01-01T00:00:00Z")
    await users.update_one({}, {"$set": {"last_request_at": past}})

    await api.call("GET", "/me", token=token)

    async with asyncio.timeout(PATIENCE):
        while (await users.find_one({}))["last_request_at"] == past:
            await asyncio.sleep(0.01)
    _, me = await api.call("GET", "/me", token=token)
    # As text, a whole second would be later than the milliseconds after it.
    assert datetime.fromisoformat(me["last_login_at"]) <= datetime.fromisoformat(me["last_request_at"])


async def test_a_full_hashing_queue_answers_503(serve: Serve) -> None:
    """Logins above its limit are answered 503 with Retry-After, and the others succeed."""
    api = await serve(bcrypt_cost=9, hashing_threads=1, hashing_queue=2)
    await api.register()

    async def login() -> tuple[int, str]:
        async with api.client.post("/login", json={"username": "ann", "password": PASSWORD}) as answer:
            return answer.status, answer.headers.get("Retry-After", "")

    answers = await asyncio.gather(*(login() for _ in range(20)))

    assert {200, 503} == {status for status, _ in answers}
    assert all(int(retry_after) >= 1 for status, retry_after in answers if status == 503)


async def test_creating_may_be_for_users_alone(serve: Serve) -> None:
    """With SEALPOST_ANONYMOUS_CREATE=false, creation requires a user or a token with the scope; opening does not."""
    api = await serve(anonymous_create=False)
    session = await api.sign_up()
    _, good = await api.call("POST", "/tokens", {"name": "ci", "scopes": ["secrets"]}, token=session)
    _, other = await api.call("POST", "/tokens", {"name": "ci", "scopes": ["posts", "echo"]}, token=session)

    answers = [
        await api.call("POST", "/generate", {"secret": "s"}, token=token)
        for token in ("", session, good["token"], other["token"])
    ]

    assert [401, 201, 201, 403] == [status for status, _ in answers]
    assert "insufficient_scope" == answers[3][1]["code"]
    assert 200 == (await api.open(answers[1][1]["secret_key"]))[0]


@pytest.mark.parametrize("field", ["envelope", "key_id", "_id"])
async def test_a_user_who_was_changed_in_the_database_does_not_sign_in(api: Api, field: str) -> None:
    """Neither with another user's password nor under another name, and the log has the reason."""
    await api.register("ann")
    await api.register("eve", "the password of eve")
    users = api.mongo.collection("users")
    ann, eve = await users.find({}).sort("created_at").to_list(None)

    if field == "_id":
        await users.delete_one({"_id": ann["_id"]})
        await users.insert_one({**eve, "_id": ann["_id"], "name_index": ann["name_index"]})
    else:
        await users.update_one({"_id": ann["_id"]}, {"$set": {field: eve["envelope"] if field == "envelope" else "x"}})

    for password in (PASSWORD, "the password of eve"):
        status, problem = await api.call("POST", "/login", {"username": "ann", "password": password})
        assert (410, "damaged") == (status, problem["code"])


async def test_a_password_changes_although_the_user_is_sealed_anew_meanwhile(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A concurrent key rotation is no reason to fail; a concurrent password change is."""
    token = await api.sign_up()
    users = api.mongo.collection("users")
    assert api.settings.keys is not None
    sealer = RecordSealer(KeyRing.parse(api.settings.keys.get_secret_value()), KIND)
    hashing = Passwords.hash
    hashes: list[str | None] = [None]

    async def hash_slowly(passwords: Passwords, password: str) -> str:
        password_hash = await hashing(passwords, password)
        document = await users.find_one({})
        content = sealer.open(UserContent, document)
        if hashes[0] is not None:
            content = content.model_copy(update={"password_hash": hashes[0]})
        await users.update_one({}, {"$set": sealer.seal(content, document["_id"])})
        return password_hash

    monkeypatch.setattr(Passwords, "hash", hash_slowly)
    for current, new, expected in (
        (PASSWORD, "the second password", 204),
        ("the second password", "the third password", 403),
    ):
        status, _ = await api.call("PUT", "/me/password", {"current": current, "new": new}, token=token)
        assert expected == status
        hashes[0] = hash_password("somebody else's", 4)
    await api.login(password="somebody else's")


async def test_a_sign_in_checks_again_what_changed_while_it_was_checked(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login fails if its password is replaced meanwhile, and succeeds if the password is still right."""
    await api.register()
    users = api.mongo.collection("users")
    assert api.settings.keys is not None
    sealer = RecordSealer(KeyRing.parse(api.settings.keys.get_secret_value()), KIND)
    starting = SessionStore.start
    changed_to = [hash_password(PASSWORD, 4), hash_password("another one", 4)]

    async def start_late(sessions: SessionStore, user_id: bytes, *more: Any) -> Any:
        document = await users.find_one({})
        content = sealer.open(UserContent, document).model_copy(update={"password_hash": changed_to.pop(0)})
        await users.update_one({}, {"$set": sealer.seal(content, user_id)})
        return await starting(sessions, user_id, *more)

    monkeypatch.setattr(SessionStore, "start", start_late)
    statuses = [(await api.call("POST", "/login", {"username": "ann", "password": PASSWORD}))[0] for _ in range(2)]

    assert [200, 401] == statuses
    assert 1 == await api.mongo.collection("sessions").count_documents({"ended_at": None})


async def test_a_token_made_by_a_user_who_is_gone_is_taken_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """An access token is accepted for a while after deletion; an API token created with it is removed."""
    token = await api.sign_up()
    await api.call("DELETE", "/me", {"password": PASSWORD}, token=token)

    async def not_known_yet(*_: object) -> bool:
        return False

    monkeypatch.setattr("src.accounts.sessions.EndedSessions.contain", not_known_yet)
    for method, path, body in (("POST", "/tokens", {"name": "late", "scopes": ["echo"]}), ("GET", "/me", None)):
        assert 401 == (await api.call(method, path, body, token=token))[0]

    assert 0 == await api.mongo.collection("api_tokens").count_documents({})


async def test_the_only_way_to_sign_in_cannot_be_removed(api: Api) -> None:
    """The password stays, and so do the other sessions."""
    token = await api.sign_up()
    other = (await api.login())["access_token"]

    status, problem = await api.call("DELETE", "/me/password", {"current": PASSWORD}, token=token)

    assert (409, "last_way_to_sign_in") == (status, problem["code"])
    status, me = await api.call("GET", "/me", token=other)
    assert (200, ["password"], False) == (status, me["sign_in"], me["operator"])
    await api.login()


@pytest.mark.parametrize(("method", "path"), [("PUT", "/me/password"), ("DELETE", "/me/password"), ("DELETE", "/me")])
async def test_changes_of_an_account_require_its_password(api: Api, method: str, path: str) -> None:
    """Without it, the response says that it is missing; a wrong one is refused."""
    token = await api.sign_up()
    new = {"new": "three other words"} if method == "PUT" else {}
    name = "password" if path == "/me" else "current"

    status, problem = await api.call(method, path, new, token=token)

    assert (400, [name]) == (status, [error["field"] for error in problem["errors"]])
    status, problem = await api.call(method, path, {**new, name: "wrong"}, token=token)
    assert (403, "incorrect_password") == (status, problem["code"])
    await api.login()
