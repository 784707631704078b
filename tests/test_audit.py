"""The audit: what it records, who may read it, and that it never delays a request or reveals anything."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from .conftest import PASSWORD, Api
from .processes import PATIENCE
from .senders import Sender, operator_token

Serve = Callable[..., Awaitable[Api]]


async def audit(api: Api, token: str, **parameters: str) -> list[dict[str, Any]]:
    """Return the events as an operator gets them."""
    headers = {"Authorization": f"Bearer {token}"}
    async with api.client.get("/audit", params=parameters, headers=headers) as response:
        assert (200, "application/x-ndjson") == (response.status, response.headers["Content-Type"])
        return [json.loads(line) for line in (await response.text()).split("\n") if line]


async def audited(api: Api, token: str, number: int, **parameters: str) -> list[dict[str, Any]]:
    """Return the events once there are as many."""
    async with asyncio.timeout(PATIENCE):
        while len(lines := await audit(api, token, **parameters)) < number:
            await asyncio.sleep(0.05)
    assert number == len(lines)
    return lines


async def test_what_a_user_does_is_recorded(api: Api) -> None:
    """Every step of an account, each with the account that it concerns, in order."""
    operator = await operator_token(api)
    ann = (await api.register("ann"))["user_id"]
    assert 401 == (await api.call("POST", "/login", {"username": "Ann", "password": "a wrong one"}))[0]
    assert 401 == (await api.call("POST", "/login", {"username": "nobody", "password": PASSWORD}))[0]
    token = (await api.login("ann"))["access_token"]
    _, made = await api.call("POST", "/tokens", {"name": "ci", "scopes": ["echo"]}, token=token)
    await api.call("DELETE", f"/tokens/{made['id']}", token=token)
    await api.call("PUT", "/me/password", {"current": PASSWORD, "new": "another password"}, token=token)
    await api.call("POST", "/logout", token=token)
    token = (await api.login("ann", "another password"))["access_token"]
    assert 204 == (await api.call("DELETE", "/me", {"password": "another password"}, token=token))[0]

    lines = await audited(api, operator, 9, user=ann)

    assert [
        ("registered", None),
        ("sign_in_failed", "password"),
        ("signed_in", "password"),
        ("api_token_created", None),
        ("api_token_deleted", None),
        ("password_changed", None),
        ("signed_out", None),
        ("signed_in", "password"),
        ("account_deleted", None),
    ] == [(line["kind"], line.get("method")) for line in lines]
    assert {(ann, None)} == {(line["user_id"], line["username"]) for line in lines}
    assert sorted(line["at"] for line in lines) == [line["at"] for line in lines]
    assert 11 == len(await audit(api, operator))


async def test_what_becomes_of_an_item_is_recorded_by_its_id(serve: Serve) -> None:
    """Creation by a user, openings, failures and burning; an anonymous request that meets no item is not recorded."""
    api = await serve(anonymous_create=False)
    token = await operator_token(api)
    _, locked = await api.call("POST", "/generate", {"secret": "s", "phrase": "right", "max_attempts": 2}, token=token)
    for phrase in ("wrong", "false", "right"):
        await api.open(locked["secret_key"], phrase=phrase)
    _, opened = await api.call("POST", "/generate", {"secret": "s"}, token=token)
    await api.open(opened["secret_key"])
    await api.open(opened["secret_key"])
    await api.open("A" * 43)
    _, message = await api.call("POST", "/", {"message": "m"}, token=token)
    path = message["url"].partition("/message/")[2]
    await api.call("GET", f"/message/{path}")
    assert 204 == (await api.call("DELETE", f"/receipts/{message['receipt_key']}"))[0]

    lines = [line for line in await audited(api, token, 12) if "item_id" in line]

    kinds = [line["kind"].removeprefix("item_") for line in lines]
    assert ["created", "opening_failed", "opening_failed", "opening_failed"] == kinds[:4]
    assert ["created", "opened", "opening_failed", "created", "opened", "burned"] == kinds[4:]
    assert [4, 3, 3] == [
        sum(line["item_id"] == one for line in lines) for one in dict.fromkeys(i["item_id"] for i in lines)
    ]
    assert {"created"} == {kind for kind, line in zip(kinds, lines, strict=True) if "user_id" in line}
    assert not any("address" in line for line in lines)
    assert [lines[4]] == await audit(api, token, kind="item_created", since=lines[4]["at"], until=lines[7]["at"])


@pytest.mark.parametrize("is_on", [True, False])
async def test_addresses_are_recorded_only_if_the_operator_says_so(serve: Serve, *, is_on: bool) -> None:
    """With the setting, an event has the address of its client; without it, none has."""
    api = await serve(behind_nginx=True, audit_addresses=is_on)
    sender = Sender(api, address="192.0.2.9")
    await sender.token()
    token = await operator_token(api)

    lines = await audited(api, token, 4)

    assert ["registered", "signed_in"] == [line["kind"] for line in lines[:2]]
    assert [{"192.0.2.9"} if is_on else set()] * 2 == [
        {line["address"]} if "address" in line else set() for line in lines[:2]
    ]


async def test_without_a_time_to_live_there_is_no_audit(serve: Serve) -> None:
    """The route does not exist, and nothing is stored."""
    api = await serve(audit_ttl=0)
    token = await operator_token(api)

    assert 404 == (await api.call("GET", "/audit", token=token))[0]
