"""Faults of members, hosts and the network. Each fault ends with its context, except network faults: `Network.heal`."""

import asyncio
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from .cluster import HOSTS, MEMBERS, Cluster, Host, Member
from .network import NetworkError

LOSS = 0.1
"""Share of packets that each host drops."""
MINUTE, DAY = 60, 86_400
CLOCK_SECONDS = 2.0
"""Seconds for which a process with a wrong clock must stay unready."""

Fault = Callable[[Cluster], AbstractAsyncContextManager[None]]


def others(primary: Member) -> list[str]:
    return [name for name in MEMBERS if name != primary.node.name]


@asynccontextmanager
async def primary_cut_off(cluster: Cluster) -> AsyncIterator[None]:
    """The primary is cut off from the other members and from the application hosts."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name], [*others(primary), *HOSTS])
    yield


@asynccontextmanager
async def primary_without_members(cluster: Cluster) -> AsyncIterator[None]:
    """The primary is cut off from the other members; the application hosts reach the old primary and the new one."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name], others(primary))
    yield


@asynccontextmanager
async def primary_with_one_host(cluster: Cluster) -> AsyncIterator[None]:
    """The old primary and one application host are cut off from the others."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name, "app1"], [*others(primary), "app2"])
    yield


@asynccontextmanager
async def primary_hears_no_member(cluster: Cluster) -> AsyncIterator[None]:
    """Only packets from the other members to the primary are dropped."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name], others(primary), one_way=True)
    yield


@asynccontextmanager
async def no_member_hears_primary(cluster: Cluster) -> AsyncIterator[None]:
    """Only packets from the primary to the other members are dropped."""
    primary = await cluster.primary()
    await cluster.network.cut(others(primary), [primary.node.name], one_way=True)
    yield


@asynccontextmanager
async def one_host_without_primary(cluster: Cluster) -> AsyncIterator[None]:
    """One application host reaches only the secondaries."""
    primary = await cluster.primary()
    await cluster.network.cut(["app1"], [primary.node.name])
    yield


@asynccontextmanager
async def one_host_cut_off(cluster: Cluster) -> AsyncIterator[None]:
    """One application host reaches no member."""
    await cluster.network.cut(["app1"], MEMBERS)
    yield


@asynccontextmanager
async def primary_frozen(cluster: Cluster) -> AsyncIterator[None]:
    """The primary is paused, with its connections open."""
    primary = await cluster.primary()
    primary.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        primary.signal(signal.SIGCONT)


@asynccontextmanager
async def primary_killed(cluster: Cluster) -> AsyncIterator[None]:
    """The primary is killed, and restarted at the end."""
    primary = await cluster.primary()
    await primary.kill()
    try:
        yield
    finally:
        await primary.start()


@asynccontextmanager
async def host_killed(cluster: Cluster) -> AsyncIterator[None]:
    """An application host is killed, and restarted at the end."""
    host = cluster.hosts["app1"]
    await host.kill()
    try:
        yield
    finally:
        await host.start()


@asynccontextmanager
async def primary_stepped_down(cluster: Cluster) -> AsyncIterator[None]:
    """The primary steps down."""
    await cluster.step_down()
    yield


@asynccontextmanager
async def packets_lost(cluster: Cluster) -> AsyncIterator[None]:
    """Each host drops packets at random."""
    try:
        await cluster.network.lose(LOSS)
    except NetworkError as error:
        pytest.skip(str(error))
    yield


@asynccontextmanager
async def clocks_wrong(cluster: Cluster) -> AsyncIterator[None]:
    """Additional application hosts with wrong clocks run. None becomes ready."""
    library = build_clock(cluster.directory)
    node = cluster.network.nodes["app2"]
    hosts = []
    for seconds in (10 * MINUTE, -10 * MINUTE, 8 * DAY, -8 * DAY):
        shifted = {**cluster.environment, "LD_PRELOAD": str(library), "CLOCK_OFFSET": str(seconds)}
        hosts.append(Host(node, cluster.directory / "clocks", shifted, f"clock{seconds}"))
    try:
        for host in hosts:
            await host.start()
        await asyncio.gather(*(never_ready(host) for host in hosts))
        yield
    finally:
        for host in hosts:
            await host.kill()


async def never_ready(host: Host) -> None:
    async with asyncio.timeout(60):
        while (await host.readiness())[0] is None:
            await asyncio.sleep(0.1)
    deadline = time.monotonic() + CLOCK_SECONDS
    while time.monotonic() < deadline:
        status, _ = await host.readiness()

        assert 503 == status, host.name
        await asyncio.sleep(0.1)
    async with host.session() as session, session.post("/generate", json={"secret": "late"}) as answer:
        assert 503 == answer.status, host.name


def build_clock(directory: Path) -> Path:
    if not (compiler := shutil.which("gcc") or shutil.which("cc")):
        pytest.skip("there is no C compiler")
    library = directory / "clock.so"
    source = Path(__file__).with_name("clock.c")
    subprocess.run([compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


FAULTS: list[Fault] = [
    primary_cut_off,
    primary_without_members,
    primary_with_one_host,
    primary_hears_no_member,
    no_member_hears_primary,
    one_host_without_primary,
    one_host_cut_off,
    primary_frozen,
    primary_killed,
    host_killed,
    primary_stepped_down,
    packets_lost,
    clocks_wrong,
]


WITHOUT_ELECTION = {
    one_host_without_primary,
    one_host_cut_off,
    host_killed,
    primary_stepped_down,
    packets_lost,
    clocks_wrong,
}
"""Faults without an election timeout, whose effects show sooner."""


def name_of(fault: Fault) -> str:
    """Return the name of a fault."""
    return fault.__name__.replace("_", " ")
