"""Metrics of the whole stack: where they are served, and that none are lost with a worker."""

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import ROOT, RunningStack

from ..counts import Counts
from .conftest import PROBE
from .test_edge import raw
from .test_restart import all_running
from .traffic import create, open_secret, post

pytestmark = pytest.mark.stack

SPELLINGS = [
    *(b"/metrics", b"//metrics", b"/metrics?x", b"/metrics/", b"/metrics//", b"/metrics;x", b"/metrics#x", b"/METRICS"),
    *(b"/%6detrics", b"/%256detrics", b"/metrics%00", b"/metrics%0a", b"/metrics%2f", b"/metrics%20", b"/metrics%23"),
    *(b"/x/../metrics", b"/./metrics", b"/x/%2e%2e/metrics", b"/x%2f../metrics", b"/%2e/metrics", b"/..%2fmetrics"),
    *(b"/%2fmetrics", b"/metrics/.", b"/metrics/x/..", b"/metrics/%2e", b"\\metrics", b"/\\metrics", b"/x/..\\metrics"),
    *(b"http://a/metrics", b"http://a//metrics", b"http://127.0.0.1:9145/metrics", b"metrics", b"*"),
]


async def scrape(stack: RunningStack) -> Counts:
    """Return the metrics of the stack."""
    async with ClientSession() as session, session.get(stack.metrics_url) as response:
        assert response.status == 200
        return Counts(await response.text())


def differences(
    before: dict[tuple[str, str, str], int], after: dict[tuple[str, str, str], int]
) -> dict[tuple[str, str, str], int]:
    """Return the increase of each count that has grown."""
    grown = {key: count - before.get(key, 0) for key, count in after.items()}
    return {key: count for key, count in grown.items() if count}


async def some_of_everything(client: ClientSession, count: int) -> dict[tuple[str, str, str], int]:
    """Send requests of several kinds, a few in parallel, and return the expected counts."""

    async def one(number: int) -> None:
        key = await create(client, f"a secret {number}")
        async with client.get(f"/secrets/{key}") as response:
            assert response.status == 200
        assert (await open_secret(client, key)).status == 200
        assert (await open_secret(client, key)).status == 404
        assert (await post(client, "/generate", {"secret": 3})).status == 400
        async with client.head("/hello") as response:
            assert response.status == 200
        async with client.get(f"/nowhere/{number}") as response:
            assert response.status == 404

    for begin in range(0, count, 10):
        await asyncio.gather(*(one(number) for number in range(begin, min(begin + 10, count))))
    return {
        ("POST", "/generate", "2xx"): count,
        ("POST", "/generate", "4xx"): count,
        ("GET", "/secrets/{secret_key}", "2xx"): count,
        ("POST", "/secrets/{secret_key}", "2xx"): count,
        ("POST", "/secrets/{secret_key}", "4xx"): count,
        ("HEAD", "/hello", "2xx"): count,
        ("GET", "unmatched", "4xx"): count,
    }


async def test_counts_are_exact_through_the_death_of_a_worker(stack: RunningStack, client: ClientSession) -> None:
    """Over 4 workers they add up to the requests sent, even after one was killed and another restarted."""
    workers = await all_running(stack)
    before = (await scrape(stack)).requests()
    sent = await some_of_everything(client, 60)
    while_living = differences(before, (await scrape(stack)).requests())
    os.kill(workers[0], signal.SIGKILL)
    await asyncio.to_thread(stack.supervisorctl, "restart", "worker:worker-2")
    restarted = await all_running(stack)
    after_death = differences(before, (await scrape(stack)).requests())
    more = await some_of_everything(client, 45)
    told = await scrape(stack)

    assert workers[0] != restarted[0]
    assert workers[1] != restarted[1]
    assert sent == while_living == after_death
    assert {key: count + more[key] for key, count in sent.items()} == differences(before, told.requests())
    assert {f"worker-{number}" for number in range(1, 5)} == told.values("sealpost_build_info", "worker")
    assert not [sample for sample in told.samples if "pid" in sample.labels]
    assert stat.S_IMODE((stack.run_dir / "metrics").stat().st_mode) == 0o700


async def test_any_number_of_scrapes_agree(stack: RunningStack) -> None:
    """Every worker reports the same."""
    await all_running(stack)
    told = await asyncio.gather(*(scrape(stack) for _ in range(12)))

    assert [told[0].requests()] * 12 == [counts.requests() for counts in told]


@pytest.mark.parametrize("path", SPELLINGS)
async def test_metrics_are_not_public(stack: RunningStack, path: bytes) -> None:
    """The public port serves none, with any spelling of the path and any headers."""
    answer = await raw(
        stack, b"GET %s HTTP/1.1\r\nHost: a\r\nX-Real-IP:\r\nX-Real-IP: 127.0.0.1\r\nConnection: close\r\n\r\n" % path
    )

    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))
    assert b"sealpost_" not in answer


async def test_the_port_of_metrics_has_nothing_else(stack: RunningStack) -> None:
    """It serves no other route, and nginx passes on no odd request."""
    address = stack.metrics_url.removesuffix("/metrics")
    seen = {}
    async with ClientSession(address) as session:
        for path in ("/", "/hello", "/healthz", "/generate", "/metrics/", "/secrets/x", "/openapi.json"):
            async with session.get(path) as response:
                seen[path] = response.status
        async with session.post("/metrics", data=b"x") as response:
            seen["POST"] = response.status
        async with session.request("ODD", "/metrics") as response:
            seen["ODD"] = response.status
        # A client's proxy headers are not passed on.
        async with session.get("/metrics", headers={"X-Real-IP": "192.0.2.1", "Via": "x"}) as response:
            seen["told"] = response.status

    assert {405, 400, 200} == {seen.pop("POST"), seen.pop("ODD"), seen.pop("told")}
    assert {404} == set(seen.values())


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """The stack does not start, and names the port and how to change it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "src.stack", "--port", "0", "--metrics-port", port],
            cwd=tmp_path,
            env={**os.environ, **PROBE, "PYTHONPATH": str(ROOT), "SEALPOST_DATA_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "METRICS_PORT=" in ended.stderr
