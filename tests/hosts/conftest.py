"""The hosts that all tests share, and the report of the measurements."""

import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from ..conftest import MEMORY
from .cluster import HOSTS, MEMBERS, Cluster, running_cluster
from .load import OPERATOR, clients
from .network import Network, NetworkError, running_network
from .report import FaultReport

SECONDS = float(os.environ.get("HOSTS_SECONDS", "7"))
"""Duration of each fault."""


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    try:
        with running_network([*MEMBERS, *HOSTS]) as network:
            yield network
    except NetworkError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
async def cluster(network: Network) -> AsyncIterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="sealpost-hosts-", dir=MEMORY if MEMORY.is_dir() else None) as directory:
        async with running_cluster(network, Path(directory)) as cluster:
            async with clients(cluster, "setup") as load:
                await load.ask("POST", "/register", OPERATOR)
            await cluster.manage("users", "make-operator", OPERATOR["username"])
            yield cluster


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Iterator[FaultReport]:
    """Collects measurements, and prints them at the end."""
    report = FaultReport(Path(os.environ["HOSTS_HISTORY"]) if os.environ.get("HOSTS_HISTORY") else None)
    yield report
    manager = request.config.pluginmanager.getplugin("capturemanager")
    with manager.global_and_fixture_disabled():
        print("\n" + report.table())  # noqa: T201
