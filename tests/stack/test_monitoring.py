"""The queries of confs/prometheus and confs/grafana, run by a real Prometheus against the running stack."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from ..test_monitoring import dashboard, panels, rules
from .prometheus import Prometheus, running_prometheus
from .test_accounts import PASSWORD, ask, do, log_in, sign_up
from .test_restart import all_running
from .traffic import create, open_secret

pytestmark = pytest.mark.stack

SLOW = {
    *("SealpostEchoLatencyBurnsFast", "SealpostEchoLatencyBurnsSlowly", "SealpostAuthenticationSlow"),
    *("SealpostEventLoopLags", "SealpostMongoSlow"),
}
"""Alerts that a busy machine may fire."""
VARIABLES = {"$__rate_interval": "15s", "$route": ".*"}


@asynccontextmanager
async def prometheus(stack: RunningStack, directory: Path) -> AsyncIterator[Prometheus]:
    """Run a Prometheus without earlier data."""
    with running_prometheus(stack.metrics_url, directory) as url:
        async with ClientSession() as session:
            prometheus = Prometheus(url, session)
            async with asyncio.timeout(PATIENCE):
                while not await prometheus.is_ready():
                    await asyncio.sleep(0.1)
            yield prometheus


async def a_bit_of_everything(client: ClientSession) -> None:
    """Use each feature, including invalid requests."""
    for fields in ({}, {"phrase": "old friend"}):
        key = await create(client, "a secret", **fields)
        assert (await ask(client, "POST", f"/secrets/{key}", {"phrase": "old foe"} if fields else None)).status in {
            200,
            403,
        }
        assert (await ask(client, "POST", f"/secrets/{key}", fields or None)).status in {200, 404}
    assert (await open_secret(client, "unknown")).status == 404
    message = await do(client, "POST", "/", {"message": "for everybody"})
    await do(client, "GET", "/message/" + message["url"].rpartition("/")[2])
    await do(client, "DELETE", f"/receipts/{message['receipt_key']}")
    user = await sign_up(client)
    assert (await ask(client, "POST", "/login", {"username": user.name, "password": PASSWORD + "x"})).status == 401
    post = await do(client, "POST", "/posts", {"content": "a post"}, token=user.token)
    await do(client, "PUT", f"/posts/{post['id']}/like", token=user.token)
    await do(client, "GET", "/posts", token=user.token)
    program = await do(client, "POST", "/tokens", {"name": "a program", "scopes": ["echo", "gather"]}, token=user.token)
    await do(client, "POST", "/message", {"message_type": "MESSAGE", "message": "a line"}, token=program["token"])
    for token in (user.token, program["token"]):
        assert {"str": "✓"} == await do(client, "POST", "/echo", {"str": "✓"}, token=token)
    await do(client, "POST", "/refresh", {"refresh_token": (await log_in(client, user.name))["refresh_token"]})


def queries() -> list[str]:
    """Return the queries of the dashboard, with variables filled in, and the recorded series."""
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    for name, value in VARIABLES.items():
        asked = [expression.replace(name, value) for expression in asked]

    assert [] == [expression for expression in asked if re.search(r"\$\w", expression)]
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    return [*asked, *sorted(recorded)]


@pytest.mark.timed
async def test_every_query_has_data_and_no_alert_fires(
    stack: RunningStack, client: ClientSession, tmp_path: Path
) -> None:
    """With some of all traffic, each panel and each recorded series has data, and a healthy stack fires no alert.

    Alerts about latency are excepted: if the machine pauses for a moment, its latency looks bad for hours. The tests
    of the rules cover them, with data of their own.
    """
    [variable] = dashboard()["templating"]["list"]
    metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"]["query"])[0]
    await all_running(stack)
    async with prometheus(stack, tmp_path) as one:
        missing, calling = await looked_at(one, client)
        found = await rules_of(one)
        routes = await one.tell(f"label/{label}/values?match[]={metric}")

    assert SLOW < {rule.get("alert") for rule in rules()}
    assert [] == missing
    assert [] == calling
    assert {"ok"} == {rule["health"] for rule in found}
    assert len(rules()) == len(found)
    assert "/echo" in routes


async def looked_at(prometheus: Prometheus, client: ClientSession) -> tuple[list[str], list[str]]:
    """Return the queries without data and the alerts that are not silent, once there are none or on timeout.

    A query that had data once counts: an instance that is scraped every second is sometimes late, and then has no
    value.
    """
    loop = asyncio.get_running_loop()
    deadline, missing, calling = loop.time() + PATIENCE, queries(), list[str]()
    while (missing or calling) and loop.time() < deadline:
        await asyncio.gather(*(a_bit_of_everything(client) for _ in range(4)))
        answers = await asyncio.gather(*(prometheus.has_data(query) for query in missing))
        missing = [query for query, answer in zip(missing, answers, strict=True) if not answer]
        active = [rule["name"] for rule in await rules_of(prometheus) if rule.get("state", "inactive") != "inactive"]
        calling = [name for name in active if name not in SLOW]
    return missing, calling


async def rules_of(prometheus: Prometheus) -> list[Any]:
    """Return the state of all rules."""
    return [rule for group in (await prometheus.tell("rules"))["groups"] for rule in group["rules"]]
