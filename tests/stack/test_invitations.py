"""Registration by invitation, over all workers and despite crashes."""

import asyncio
import os
import secrets
import signal
from typing import Any

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from .test_accounts import PASSWORD, ask, do
from .test_gatherer import operator
from .test_restart import all_running

__all__ = ["operator"]

pytestmark = pytest.mark.stack


async def invite(client: ClientSession, token: str, uses: int) -> Any:
    return await do(client, "POST", "/invitations", {"uses": uses}, token=token)


async def register(client: ClientSession, name: str, invitation: str) -> int:
    body = {"username": name, "password": PASSWORD, "invitation": invitation}
    return (await ask(client, "POST", "/register", body)).status


async def test_of_a_hundred_with_one_invitation_one_registers(client: ClientSession, operator: str) -> None:
    """10 times over: 1 gets an account, and 99 are refused."""
    for _ in range(10):
        text, prefix = (await invite(client, operator, 1))["invitation"], secrets.token_hex(8)
        statuses = await asyncio.gather(*(register(client, f"{prefix}-{number}", text) for number in range(100)))

        assert sorted(statuses) == [201] + [403] * 99


async def test_a_killed_worker_neither_loses_a_use_nor_gives_one_away(
    stack: RunningStack, client: ClientSession, operator: str
) -> None:
    """There are as many new accounts as uses are missing from the invitation, whatever the clients were told."""
    workers = await all_running(stack)
    invitation, prefix = await invite(client, operator, 60), secrets.token_hex(8)
    names = [f"{prefix}-{number}" for number in range(50)]
    registering = asyncio.gather(*(register(client, name, invitation["invitation"]) for name in names))
    await asyncio.sleep(0.1)
    os.kill(workers[0], signal.SIGKILL)
    statuses = await registering
    await all_running(stack)

    assert set(statuses) <= {201, 502, 503}
    listed = await do(client, "GET", "/invitations", token=operator)
    [uses_left] = [one["uses_left"] for one in listed["invitations"] if one["id"] == invitation["id"]]
    logins = [(await ask(client, "POST", "/login", {"username": name, "password": PASSWORD})).status for name in names]
    assert 60 - uses_left == logins.count(200) >= statuses.count(201) > 0
