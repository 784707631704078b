"""The limits of one client address."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack, running_stack

from .conftest import PROBE, grep_logs, session
from .traffic import assert_problem

pytestmark = pytest.mark.stack

BURST = 20
RATE_OF_ALL, BURST_OF_ALL = 60, 100
CONNECTIONS = 100


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    directory = tmp_path_factory.mktemp("limited")
    rates = {"SEALPOST_RATE_CREATE": "1r/m", "SEALPOST_RATE_OPEN": "1r/m", "SEALPOST_RATE_ALL": f"{RATE_OF_ALL}r/s"}
    with running_stack(
        data_dir=directory, log_dir=directory / "logs", app_module="tests.stack.probe", environment={**PROBE, **rates}
    ) as running:
        yield running


@pytest.fixture
async def stranger(limited: RunningStack) -> AsyncIterator[ClientSession]:
    # Time for the limit on all requests to recover from earlier tests.
    await asyncio.sleep(BURST_OF_ALL / RATE_OF_ALL)
    async with session(limited) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "paths"),
    [
        ("POST", ["/generate", "/", "/%67enerate", "/generate?x=1", "/identify", "/authenticate"]),
        ("POST", ["/secrets/LIMITKEY1", "/secrets/LIMITKEY2", "/message/LIMITKEY3", "/receipts/LIMITKEY4"]),
    ],
    ids=["create", "open"],
)
async def test_creations_and_openings_have_a_limit_of_their_own(
    limited: RunningStack, stranger: ClientSession, method: str, paths: list[str]
) -> None:
    """After the burst an address gets 429 with Retry-After, on all paths of the same kind, and nowhere else."""
    for index in range(BURST + 1):
        async with stranger.request(method, limited.url + paths[index % len(paths)]) as response:
            assert response.status == 200
    for path in paths:
        async with stranger.request(method, path) as response:
            await assert_problem(response, 429, "too_many")
            assert response.headers["Retry-After"] == "1"
    for path in ("/healthz", "/secrets/LIMITKEY1/files/LIMITKEY2"):
        async with stranger.get(path) as response:
            assert response.status == 200
    assert await grep_logs(limited, "LIMITKEY") == []


async def test_all_requests_together_have_a_limit(stranger: ClientSession) -> None:
    """Of many more requests at once than the burst, the excess gets 429."""

    async def ask() -> int:
        async with stranger.get("/healthz") as response:
            return response.status

    begun = time.monotonic()
    statuses = Counter(await asyncio.gather(*(ask() for _ in range(6 * BURST_OF_ALL))))
    seconds = time.monotonic() - begun

    assert set(statuses) == {200, 429}
    assert BURST_OF_ALL - 10 <= statuses[200] <= BURST_OF_ALL + RATE_OF_ALL * seconds + 2


async def test_requests_at_once_have_a_limit(limited: RunningStack) -> None:
    """An address has at most 100 requests in progress."""
    await asyncio.sleep(2 * BURST_OF_ALL / RATE_OF_ALL)

    async def hold(client: ClientSession) -> int:
        async with client.get("/healthz", params={"sleep": 8}) as response:
            return response.status

    async with session(limited) as client:
        first = [asyncio.create_task(hold(client)) for _ in range(BURST_OF_ALL - 5)]
        await asyncio.sleep(1)
        second = [asyncio.create_task(hold(client)) for _ in range(30)]
        statuses = Counter(await asyncio.gather(*first, *second))

    assert statuses == {200: CONNECTIONS, 429: BURST_OF_ALL - 5 + 30 - CONNECTIONS}
