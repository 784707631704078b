"""The audit: what it records, who may read it, and that it never delays a request or reveals anything."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .commands import Operator
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


async def test_what_a_user_does_is_recorded(serve: Serve) -> None:
    """Every step of an account, each with the account that it concerns, in order."""
    api = await serve()
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


async def test_every_failed_sign_in_to_an_account_is_recorded(serve: Serve) -> None:
    """Through /authenticate as through /login, and to a disabled account; never to a reserved or an unknown name."""
    api = await serve()
    operator = await operator_token(api)
    sender = Sender(api, username="web-1")
    await sender.identify()
    await Sender(api, username="reserved").identify()
    await sender.authenticate()
    assert 403 == (await Sender(api, username="web-1", password="wrong").authenticate())[0]
    user = (await audited(api, operator, 3, user="web-1"))[0]["user_id"]
    assert 200 == (await api.call("PATCH", f"/users/{user}", {"disabled": True}, token=operator))[0]
    await api.call("POST", "/login", {"username": "web-1", "password": PASSWORD})
    for name in ("reserved", "nobody"):
        assert 401 == (await api.call("POST", "/login", {"username": name, "password": PASSWORD}))[0]

    lines = await audited(api, operator, 5, user=user)

    kinds = ["registered", "signed_in", "sign_in_failed", "user_disabled", "sign_in_failed"]
    assert kinds == [line["kind"] for line in lines]
    assert "the-operator" == lines[3]["by_username"]
    assert lines[3] in await audit(api, operator, user="THE-operator")
    assert 7 == len(await audit(api, operator))


async def test_a_reused_refresh_token_is_recorded(serve: Serve) -> None:
    """The session that it ends counts as signed out."""
    api = await serve()
    operator = await operator_token(api)
    await api.register("ann")
    token = (await api.login("ann"))["refresh_token"]
    assert [200, 401] == [(await api.call("POST", "/refresh", {"refresh_token": token}))[0] for _ in range(2)]

    lines = await audited(api, operator, 3, user="ann")

    assert "signed_out" == lines[-1]["kind"]


async def test_it_is_only_for_operators(api: Api) -> None:
    """Anonymous clients and users get nothing, and an invalid query names its parameter."""
    operator, user = await operator_token(api), await api.sign_up("ann")

    assert [401, 403] == [(await api.call("GET", "/audit", token=token))[0] for token in ("", user)]
    for query, field in (
        ("since=yesterday", "since"),
        ("since=2026-01-02&until=2026-01-01", "until"),
        ("kind=unheard", "kind"),
    ):
        status, answer = await api.call("GET", f"/audit?{query}", token=operator)
        assert (400, [field]) == (status, [error["field"] for error in answer["errors"]])
    assert [] == await audit(api, operator, user="nobody")


async def test_the_command_exports_the_same_as_http(serve: Serve, mongo_url: str, tmp_path: Path) -> None:
    """The same lines with the same filters, among them the actions of other commands, which name no operator."""
    api = await serve()
    operator = Operator.of(api.settings, mongo_url)
    token = await operator_token(api)
    ann = (await api.register("ann"))["user_id"]
    await operator.run("users", "make-operator", "ann")
    await operator.run("users", "disable", "ann")
    lines = await audited(api, token, 5)
    file = tmp_path / "audit.jsonl"

    everything = await operator.run("audit", "export")
    mine = await operator.run("audit", "export", "--user", ann, "--kind", "user_disabled", "--output", str(file))
    unknown = await operator.run("audit", "export", "--user", "nobody")
    off = await replace(operator, environment={**operator.environment, "SEALPOST_AUDIT_TTL": "0"}).run(
        "audit", "export"
    )

    assert ["registered", "operator_granted", "user_disabled"] == [line["kind"] for line in lines[2:]]
    assert not any("by" in line for line in lines)
    assert (0, lines) == (everything.code, [json.loads(line) for line in everything.stdout.splitlines()])
    assert everything.stderr.endswith("sealpost: wrote 5 events\n")
    assert (0, [lines[4]]) == (mine.code, [json.loads(line) for line in file.read_text().splitlines()])
    assert (1, 1) == (unknown.code, off.code)
    assert "the audit is off" in off.stderr
