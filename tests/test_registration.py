"""Registration and invitations: who gets an account, and how many accounts one invitation gives."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from src.accounts import administration, registration
from src.accounts.invitations import MOST_INVITATIONS, hash_invitation
from src.accounts.passwords import Passwords, hash_password
from src.accounts.users import UserContent, UserStore
from src.core.audit import AuditEvent
from src.core.clock import utc_now
from src.core.crypto.keys import read_key_ring
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Mongo
from src.errors import Unavailable

from .conftest import PASSWORD, Api
from .senders import HERE, Sender

Serve = Callable[..., Awaitable[Api]]
CLOSED = (403, "registration_closed")
CREATED = (201, "")


async def operator_of(api: Api, name: str = "root") -> str:
    """Create an operator without HTTP, and return an access token."""
    users = UserStore(api.mongo, read_key_ring(api.settings), group_commit(max_batch=1, max_queue=1))
    content = UserContent(username=name, password_hash=hash_password(PASSWORD, 4), operator=True)

    assert await users.add(content)
    return str((await api.login(name))["access_token"])


async def invite(api: Api, token: str, **fields: object) -> Any:
    """Create an invitation and return the answer."""
    status, answer = await api.call("POST", "/invitations", fields, token=token)

    assert 201 == status
    return answer


async def invitations(api: Api, token: str) -> list[Any]:
    """Return the invitations that an operator sees."""
    _, answer = await api.call("GET", "/invitations", token=token)
    return list(answer["invitations"])


async def register(api: Api, name: str, invitation: str | None = None) -> tuple[int, str]:
    """Register; return the status and the problem's code."""
    body = {"username": name, "password": PASSWORD, **({} if invitation is None else {"invitation": invitation})}
    status, answer = await api.call("POST", "/register", body)
    return status, answer.get("code", "")


async def users_and_uses(api: Api) -> tuple[int, int]:
    """Count the users in the database, and the uses left of all invitations."""
    documents = await api.mongo.collection("invitations").find({}).to_list(None)
    return await api.mongo.collection("users").count_documents({}), sum(one["uses_left"] for one in documents)


async def account_ids(api: Api) -> set[bytes]:
    """Return the ids of all accounts in the database; a reserved name is none."""
    return {one["_id"] for one in await api.mongo.collection("users").find({"reserved_until": None}).to_list(None)}


async def test_an_invitation_gives_as_many_accounts_as_it_has_uses(serve: Serve) -> None:
    """With its role, and no account to a client without it; its text is not in the database."""
    api = await serve(registration="invite")
    root = await operator_of(api)
    one = await invite(api, root, uses=2)
    two = await invite(api, root, role="operator", expires_in_days=1)

    assert ("member", 2, one["invitation"]) == (one["role"], one["uses_left"], one["url"].partition("/join#")[2])
    assert "invite" == (await api.call("GET", "/service"))[1]["registration"]
    assert CLOSED == await register(api, "ann")
    assert CLOSED == await register(api, "ann", one["invitation"][:-1])
    assert CREATED == await register(api, "ann", one["invitation"])
    assert (409, "username_taken") == await register(api, "ANN", one["invitation"])
    assert [("operator", 1, "root"), ("member", 1, "root")] == [
        (listed["role"], listed["uses_left"], listed["created_by"]) for listed in await invitations(api, root)
    ]
    assert CREATED == await register(api, "bob", one["invitation"])
    assert CLOSED == await register(api, "eve", one["invitation"])
    assert CREATED == await register(api, "oona", two["invitation"])
    assert [] == await invitations(api, root)
    statuses = [
        (await api.call("GET", "/users", token=(await api.login(name))["access_token"]))[0] for name in ("bob", "oona")
    ]
    assert [403, 200] == statuses

    text = (await invite(api, root))["invitation"]
    stored = str(await api.mongo.collection("invitations").find({}).to_list(None))
    assert text not in stored
    assert text.removeprefix("si_") not in stored


async def test_an_invalid_invitation_is_refused(serve: Serve, api: Api) -> None:
    """One that has expired, was deleted, is of another deployment or was modified, also where none is required."""
    root = await operator_of(api)
    expired, deleted, damaged, member, operator = [
        await invite(api, root, role=role) for role in (*["member"] * 4, "operator")
    ]
    elsewhere = await serve()
    foreign = await invite(elsewhere, await operator_of(elsewhere))
    collection = api.mongo.collection("invitations")

    def by_id(one: Any) -> dict[str, bytes]:
        return {"_id": bytes.fromhex(one["id"])}

    past = utc_now() - timedelta(seconds=1)
    await collection.update_one(by_id(expired), {"$set": {"expires_at": past}})
    await collection.update_one(by_id(damaged), {"$set": {"envelope": b"x"}})
    assert 204 == (await api.call("DELETE", f"/invitations/{deleted['id']}", token=root))[0]
    assert (404, "invitation_not_found") == (
        (answer := await api.call("DELETE", f"/invitations/{deleted['id']}", token=root))[0],
        answer[1]["code"],
    )
    # Someone with access to the database turns an invitation for members into one for operators.
    await collection.delete_one(by_id(member))
    await collection.update_one(by_id(operator), {"$set": {"hash": hash_invitation(member["invitation"])}})

    with capture_logs() as logs:
        for one in (expired, deleted, foreign, damaged, member, operator):
            assert CLOSED == await register(api, "ann", one["invitation"])
    for text in ("", "si_", "\0", "é" * 4096):
        assert CLOSED == await register(api, "ann", text)
    assert ["error"] * 2 == [line["log_level"] for line in logs if line["event"].startswith("invitation cannot")]
    assert [] == await invitations(api, root)
    assert CREATED == await register(api, "ann")


async def test_an_invitation_ends_with_the_rights_of_its_maker(serve: Serve) -> None:
    """A former operator cannot come back by it; deleting the account deletes it."""
    api = await serve(registration="invite")
    root, other = await operator_of(api), await operator_of(api, "other")
    other_id = (await api.call("GET", "/me", token=other))[1]["user_id"]
    text = (await invite(api, other, role="operator", uses=9))["invitation"]

    async def change(**fields: object) -> None:
        assert 200 == (await api.call("PATCH", f"/users/{other_id}", fields, token=root))[0]

    await change(operator=False)
    assert CLOSED == await register(api, "ann", text)
    await change(operator=True, disabled=True)
    assert CLOSED == await register(api, "ann", text)
    await change(disabled=False)
    assert CREATED == await register(api, "ann", text)
    users, same = api.mongo.collection("users"), {"_id": bytes.fromhex(other_id)}
    envelope = (await users.find_one(same))["envelope"]
    await users.update_one(same, {"$set": {"envelope": b"x"}})
    assert CLOSED == await register(api, "bob", text)
    await users.update_one(same, {"$set": {"envelope": envelope}})
    other = (await api.login("other"))["access_token"]
    assert 204 == (await api.call("DELETE", "/me", {"password": PASSWORD}, token=other))[0]
    assert CLOSED == await register(api, "bob", text)
    assert [] == await invitations(api, root)


async def test_one_use_is_one_account_in_parallel(serve: Serve) -> None:
    """Of 100 people with one invitation, as many register as it has uses; of 20 with one name, one."""
    api = await serve(registration="invite", hashing_queue=1000)
    root = await operator_of(api)

    for uses in (1, 10):
        text = (await invite(api, root, uses=uses))["invitation"]
        names = [f"user-{uses}-{number}" for number in range(100)]
        outcomes = Counter(await asyncio.gather(*(register(api, name, text) for name in names)))
        assert {CREATED: uses, CLOSED: 100 - uses} == outcomes
    text = (await invite(api, root, uses=20))["invitation"]
    outcomes = Counter(await asyncio.gather(*(register(api, "ann", text) for _ in range(20))))

    assert {CREATED: 1, (409, "username_taken"): 19} == outcomes
    assert (1 + 11 + 1, 19) == await users_and_uses(api)


@pytest.mark.parametrize("is_committed", [True, False])
async def test_an_unknown_outcome_is_all_or_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, is_committed: bool
) -> None:
    """After a 503, the account exists if and only if its use is counted; another try does not count twice."""
    api = await serve(registration="invite")
    text = (await invite(api, await operator_of(api), uses=2))["invitation"]
    transact = Mongo.transact

    async def fail(mongo: Mongo, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async def then_fail(session: Any) -> None:
            await work(session)
            raise Unavailable

        await transact(mongo, work if is_committed else then_fail)
        raise Unavailable

    monkeypatch.setattr(Mongo, "transact", fail)
    assert (503, "unavailable") == await register(api, "ann", text)
    monkeypatch.setattr(Mongo, "transact", transact)

    assert ((2, 1) if is_committed else (1, 2)) == await users_and_uses(api)
    assert ((409, "username_taken") if is_committed else CREATED) == await register(api, "ann", text)
    assert (2, 1) == await users_and_uses(api)


async def test_guessing_costs_the_guesser_more(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """No password is hashed for an invalid invitation, and the tries of an address are limited."""
    api = await serve(registration="invite", rate_limits="on", limit_register="3 per 1 hour")

    async def hash_nothing(_: Passwords, __: str) -> str:
        raise AssertionError

    monkeypatch.setattr(Passwords, "hash", hash_nothing)
    assert [CLOSED] * 3 == [await register(api, "ann", f"si_{number}") for number in range(3)]
    assert (429, "limit_reached") == await register(api, "ann", "si_4")


async def test_a_reserved_name_becomes_no_account_by_itself(serve: Serve) -> None:
    """Programs identify only with names of accounts unless registration is open; an invitation claims the name."""
    shared = {"behind_nginx": True}
    api = await serve(**shared)
    known, left = Sender(api, username="known"), Sender(api, username="left")
    await known.token()
    assert 201 == (await left.identify())[0]
    same = {"mongo_database": api.settings.mongo_database, "keys": api.settings.keys, **shared}
    later = await serve(registration="invite", **same)
    text = (await invite(later, await operator_of(later)))["invitation"]

    def code(answer: tuple[int, Any]) -> tuple[int, str]:
        return answer[0], answer[1].get("code", "")

    left, new = (Sender(later, HERE, name) for name in ("left", "new"))
    assert CLOSED == code(await left.authenticate())
    assert CLOSED == code(await left.identify())
    assert CLOSED == code(await new.identify())
    assert (202, "") == code(await Sender(later, username="known").identify())
    assert (202, "") == code(await Sender(later, username="known").authenticate())
    assert CREATED == await register(later, "left", text)
    assert (202, "") == code(await left.identify())
    assert (202, "") == code(await left.authenticate())


async def test_nothing_over_http_creates_an_account_while_registration_is_closed(serve: Serve) -> None:
    """Every operation of the OpenAPI document is tried, by an operator and by a stranger, with an old invitation."""
    before = await serve(behind_nginx=True)
    await operator_of(before, "spare")
    text = (await invite(before, await operator_of(before)))["invitation"]
    assert 201 == (await Sender(before).identify())[0]
    same = {"mongo_database": before.settings.mongo_database, "keys": before.settings.keys}
    api = await serve(behind_nginx=True, registration="closed", **same)
    document = (await api.send("GET", "/openapi.json")).json()
    accounts = await account_ids(api)
    answers = {}

    def body_of(operation: Any) -> Any:
        contents = operation.get("requestBody", {}).get("content", {}).values()
        for content in contents:
            name = content["schema"].get("$ref", "").rpartition("/")[2]
            for example in document["components"]["schemas"].get(name, {}).get("examples", []):
                return {**example, **({"invitation": text} if name == "Register" else {})}
        return None

    for token in ("", (await api.login("root"))["access_token"]):
        # What deletes or ends something comes last.
        for method in ("get", "head", "options", "post", "patch", "put", "delete"):
            for path, item in document["paths"].items():
                if method in item and path != "/logout":
                    filled = path.replace("{", "").replace("}", "") if "_id}" not in path else path
                    for name in ("user_id", "post_id", "session_id", "token_id", "invitation_id", "passkey_id"):
                        filled = filled.replace(f"{{{name}}}", "0" * 32)
                    data = body_of(item[method])
                    headers = {"Authorization": f"Bearer {token}"} if token else {}
                    async with api.client.request(
                        method, filled, json=data, headers={"X-Real-IP": HERE, **headers}, allow_redirects=False
                    ) as answer:
                        answers[method, path, bool(token)] = answer.status
                        await answer.read()
                    assert await account_ids(api) <= accounts, (method, path)

    assert len(answers) > 100
    for route in ("/register", "/identify", "/authenticate"):
        assert 403 == answers["post", route, False] == answers["post", route, True]
    assert 409 == answers["post", "/invitations", True]
    spare = (await api.login("spare"))["access_token"]
    status, answer = await api.call("POST", "/invitations", token=spare)
    assert (409, "invitations_off") == (status, answer["code"])


async def test_there_is_a_maximum_of_unused_invitations(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Concurrent requests do not exceed it, and expired ones make room."""
    monkeypatch.setattr("src.accounts.invitations.MOST_INVITATIONS", 5)
    root = await operator_of(api)

    answers = await asyncio.gather(*(api.call("POST", "/invitations", token=root) for _ in range(10)))

    assert MOST_INVITATIONS == 1000
    assert Counter({201: 5, 409: 5}) == Counter(status for status, _ in answers)
    assert {"too_many_invitations"} == {answer["code"] for status, answer in answers if status == 409}
    past = utc_now() - timedelta(seconds=1)
    await api.mongo.collection("invitations").update_one({}, {"$set": {"expires_at": past}})
    await invite(api, root)
    assert 5 == len(await invitations(api, root))


async def test_the_database_tells_neither_role_nor_maker_of_an_invitation(api: Api) -> None:
    """Both are sealed, and the length of the envelope does not reveal them."""
    root = await operator_of(api)
    await invite(api, root)
    await invite(api, await operator_of(api, "other"), role="operator")
    documents = await api.mongo.collection("invitations").find({}).to_list(None)

    expected = {"_id", "hash", "slot", "created_at", "expires_at", "uses_left", "key_id", "envelope"}
    assert [expected, expected] == [set(document) for document in documents]
    assert 1 == len({len(document["envelope"]) for document in documents})


async def test_the_audit_records_who_was_invited(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invitations, registrations, and changes of users, with the operator who is behind each."""
    events: list[AuditEvent] = []

    def note(**fields: Any) -> AuditEvent:
        events.append(AuditEvent(**fields))
        return events[-1]

    api = await serve(registration="invite")
    root = await operator_of(api)
    root_id = bytes.fromhex((await api.call("GET", "/me", token=root))[1]["user_id"])
    for module in (administration, registration):
        monkeypatch.setattr(module, "AuditEvent", note)
    first, second = await invite(api, root, role="operator"), await invite(api, root)
    await api.call("DELETE", f"/invitations/{second['id']}", token=root)
    await register(api, "ann", first["invitation"])
    [ann_id] = await account_ids(api) - {root_id}
    for fields in ({"disabled": True}, {"disabled": True, "operator": False}, {"disabled": False, "operator": True}):
        assert 200 == (await api.call("PATCH", f"/users/{ann_id.hex()}", fields, token=root))[0]

    expected: list[tuple[str, bytes | None]] = [("invited", None), ("invited", None), ("invitation_deleted", None)]
    expected += [("registered", ann_id), ("operator_granted", ann_id), ("user_disabled", ann_id)]
    expected += [("operator_revoked", ann_id), ("user_enabled", ann_id), ("operator_granted", ann_id)]
    assert expected == [(event.kind, event.user_id) for event in events]
    assert {(root_id, "127.0.0.1")} == {(event.by, event.network) for event in events}


async def test_a_used_invitation_is_refused_late(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its last use is counted while the password is hashed."""
    root = await operator_of(api)
    one = await invite(api, root)
    hash_it = Passwords.hash

    async def delete_first(passwords: Passwords, password: str) -> str:
        assert 204 == (await api.call("DELETE", f"/invitations/{one['id']}", token=root))[0]
        return await hash_it(passwords, password)

    monkeypatch.setattr(Passwords, "hash", delete_first)
    assert CLOSED == await register(api, "ann", one["invitation"])
