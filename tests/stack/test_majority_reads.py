"""A primary without a majority discloses nothing that may be rolled back."""

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymongo
import pytest

from src.settings import Settings

from ..conftest import PASSWORD, Api, start
from ..processes import PATIENCE
from .replicas import Replicas

pytestmark = pytest.mark.stack

TIMEOUT = 5.0  # seconds that a command waits for its majority before the request is answered 503


@pytest.fixture(scope="module")
def replicas(mongo_directory: Path) -> Iterator[Replicas]:
    """3 members for this file."""
    with tempfile.TemporaryDirectory(prefix="replicas-", dir=mongo_directory) as directory:
        replicas = Replicas(Path(directory))
        try:
            replicas.start()
            yield replicas
        finally:
            replicas.stop()


@pytest.fixture
async def api(replicas: Replicas, make_settings: Callable[..., Settings]) -> AsyncIterator[Api]:
    """A server on the replica set."""
    api = await start(make_settings(mongo_timeout=TIMEOUT), replicas.url)
    yield api
    await api.client.close()


@contextmanager
def cut_off(replicas: Replicas) -> Iterator[None]:
    """Freeze the other members until the block ends."""
    replicas.signal_secondaries(signal.SIGSTOP)
    try:
        yield
    finally:
        replicas.signal_secondaries(signal.SIGCONT)


async def on_primary(replicas: Replicas, api: Api, collection: str, query: dict[str, Any]) -> None:
    """Wait until the primary has a document, with or without a majority."""
    with pymongo.MongoClient[dict[str, Any]](replicas.primary_url, readConcernLevel="local") as client:
        documents = client[api.settings.mongo_database][collection]
        async with asyncio.timeout(PATIENCE):
            while not documents.count_documents(query):
                await asyncio.sleep(0.02)


async def until(api: Api, receipt_key: str, state: str) -> None:
    """Wait until a receipt shows a state."""
    async with asyncio.timeout(PATIENCE):
        while state != await api.state(receipt_key):
            await asyncio.sleep(0.05)


async def test_a_burn_is_shown_once_a_majority_has_it(replicas: Replicas, api: Api) -> None:
    """A receipt and a look show a secret as waiting until a majority acknowledges the burn."""
    created = await api.create()
    receipt_key, secret_key = created["receipt_key"], created["secret_key"]
    with cut_off(replicas):
        burning = asyncio.create_task(api.call("DELETE", f"/receipts/{receipt_key}"))
        await on_primary(replicas, api, "items", {"state": "burned"})
        state, look = await api.state(receipt_key), await api.call("GET", f"/secrets/{secret_key}")
        status, _ = await burning

    assert ("waiting", 200, 503) == (state, look[0], status)
    await until(api, receipt_key, "burned")


async def test_an_opening_counts_once_a_majority_has_it(replicas: Replicas, api: Api) -> None:
    """The number of openings left decreases only when an opening is acknowledged."""
    created = await api.create(max_opens=3)
    receipt_key = created["receipt_key"]
    with cut_off(replicas):
        opening = asyncio.create_task(api.open(created["secret_key"]))
        await on_primary(replicas, api, "items", {"claims": {"$size": 1}})
        _, receipt = await api.call("GET", f"/receipts/{receipt_key}")
        status, _ = await opening

    assert (3, 503) == (receipt["opens_left"], status)


async def test_a_name_is_taken_once_a_majority_has_it(replicas: Replicas, api: Api) -> None:
    """Until then, its registration gets Retry-After instead of a conflict."""
    with cut_off(replicas):
        first = asyncio.create_task(api.call("POST", "/register", {"username": "ann", "password": PASSWORD}))
        await on_primary(replicas, api, "users", {})
        second, _ = await api.call("POST", "/register", {"username": "Ann", "password": PASSWORD})
        statuses = (await first)[0], second

    assert (503, 503) == statuses


async def test_sessions_end_once_a_majority_has_it(replicas: Replicas, api: Api) -> None:
    """The list of sessions keeps one whose end is not acknowledged by a majority."""
    token = await api.sign_up()
    with cut_off(replicas):
        ending = asyncio.create_task(api.call("POST", "/logout", token=token))
        await on_primary(replicas, api, "sessions", {"ended_at": {"$exists": True}})
        status, answer = await api.call("GET", "/sessions", token=token)
        ended, _ = await ending

    assert (200, 1, 503) == (status, len(answer["sessions"]), ended)
