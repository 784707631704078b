"""Users over HTTP, for operators."""

import asyncio
from functools import partial
from typing import Any

from .conftest import PASSWORD, Api, seconds_accepted
from .test_registration import operator_of


async def list_users(api: Api, token: str, query: str = "") -> Any:
    """Return a page of users."""
    status, answer = await api.call("GET", f"/users{query}", token=token)

    assert 200 == status
    return answer


async def test_operators_list_users_page_by_page(api: Api) -> None:
    """Oldest first, without reserved names and users that cannot be read; members may not."""
    root = await operator_of(api)
    ids = [(await api.register(name))["user_id"] for name in ("Ann", "bob", "eve", "dan")]
    await api.call("POST", "/identify", {"message_type": "IDENTIFY", "username": "reserved"})
    await api.mongo.collection("users").update_one({"_id": bytes.fromhex(ids[2])}, {"$set": {"envelope": b"x"}})
    # Two users of the same millisecond.
    created_at = (await api.mongo.collection("users").find_one({"_id": bytes.fromhex(ids[0])}))["created_at"]
    await api.mongo.collection("users").update_one({"_id": bytes.fromhex(ids[1])}, {"$set": {"created_at": created_at}})

    everyone = await list_users(api, root)
    pages, after = [], ""
    while after is not None:
        page = await list_users(api, root, f"?limit=1{after and f'&after={after}'}")
        pages += page["users"]
        after = page["next"]

    assert {"root", "Ann", "bob", "dan"} == {user["username"] for user in everyone["users"]}
    assert ("root", "dan", None) == (*(everyone["users"][at]["username"] for at in (0, -1)), everyone["next"])
    # The times of last requests may have changed.
    assert [user["user_id"] for user in everyone["users"]] == [user["user_id"] for user in pages]
    assert [True, False] == [everyone["users"][at]["operator"] for at in (0, 1)]
    assert 404 == (await api.call("GET", f"/users?after={'0' * 32}", token=root))[0]
    member = (await api.login("ann"))["access_token"]
    for method, path in (("GET", "/users"), ("PATCH", f"/users/{ids[0]}"), ("POST", "/invitations")):
        assert "not_operator" == (await api.call(method, path, token=member))[1]["code"]


async def test_a_user_whom_an_operator_disables_is_out_within_two_seconds(api: Api) -> None:
    """Sessions, password and API tokens; once enabled, the API tokens work again and the sessions do not."""
    root = await operator_of(api)
    user_id = (await api.register())["user_id"]
    pair = await api.login()
    body = {"name": "ci", "scopes": ["echo"]}
    _, token = await api.call("POST", "/tokens", body, token=pair["access_token"])

    async def use(credential: str) -> int:
        return (await api.call("POST", "/echo", {"str": "hello"}, token=credential))[0]

    assert [200, 200] == [await use(pair["access_token"]), await use(token["token"])]
    status, user = await api.call("PATCH", f"/users/{user_id}", {"disabled": True}, token=root)

    assert (200, True, False) == (status, user["disabled"], user["operator"])
    waits = await asyncio.gather(
        *(seconds_accepted(partial(use, one)) for one in (pair["access_token"], token["token"]))
    )
    assert max(waits) < 2
    assert 401 == (await api.call("POST", "/refresh", {"refresh_token": pair["refresh_token"]}))[0]
    credentials = {"username": "ann", "password": PASSWORD}
    assert "account_disabled" == (await api.call("POST", "/login", credentials))[1]["code"]
    status, user = await api.call("PATCH", f"/users/{user_id}", {"disabled": False, "operator": None}, token=root)
    assert (200, False, "ann") == (status, user["disabled"], user["username"])
    assert [401, 200] == [await use(pair["access_token"]), await use(token["token"])]
    await api.login()


async def test_operators_cannot_lock_themselves_out(api: Api) -> None:
    """No operator can change the own account; a former operator is refused at once."""
    root, other = await operator_of(api), await operator_of(api, "other")
    root_id, other_id = [(await api.call("GET", "/me", token=token))[1]["user_id"] for token in (root, other)]
    damaged = (await api.register("eve"))["user_id"]
    await api.mongo.collection("users").update_one({"_id": bytes.fromhex(damaged)}, {"$set": {"envelope": b"x"}})

    for body in ({"operator": False}, {"disabled": True}):
        status, answer = await api.call("PATCH", f"/users/{root_id}", body, token=root)
        assert (409, "own_account") == (status, answer["code"])
    assert 200 == (await api.call("PATCH", f"/users/{other_id}", {"operator": False}, token=root))[0]

    assert 403 == (await api.call("PATCH", f"/users/{root_id}", {"operator": False}, token=other))[0]
    for user_id, expected in ((damaged, "damaged"), ("0" * 32, "user_not_found")):
        _, answer = await api.call("PATCH", f"/users/{user_id}", {"disabled": True}, token=root)
        assert expected == answer["code"]
