"""Faults of members, of hosts, and of the network between them. Each is healed when its context ends."""

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

LOSS = 0.1
"""Share of the packets that each host loses."""
MINUTE, DAY = 60, 86_400
CLOCK_SECONDS = 2.0
"""How long a process whose clock is wrong is asked whether it is ready."""

Fault = Callable[[Cluster], AbstractAsyncContextManager[None]]


def others(primary: Member) -> list[str]:
    return [name for name in MEMBERS if name != primary.node.name]


@asynccontextmanager
async def primary_cut_off(cluster: Cluster) -> AsyncIterator[None]:
    """Neither the other members nor the application hosts reach the primary."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name], [*others(primary), *HOSTS])
    yield


@asynccontextmanager
async def primary_without_members(cluster: Cluster) -> AsyncIterator[None]:
    """The application hosts reach the old primary and the new one."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name], others(primary))
    yield


@asynccontextmanager
async def primary_with_one_host(cluster: Cluster) -> AsyncIterator[None]:
    """One application host is on the side of the old primary."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name, "app1"], [*others(primary), "app2"])
    yield


@asynccontextmanager
async def primary_hears_no_member(cluster: Cluster) -> AsyncIterator[None]:
    """One way: the others hear the primary, which hears neither of them."""
    primary = await cluster.primary()
    await cluster.network.cut([primary.node.name], others(primary), one_way=True)
    yield


@asynccontextmanager
async def no_member_hears_primary(cluster: Cluster) -> AsyncIterator[None]:
    """One way: the primary hears the others, which do not hear it."""
    primary = await cluster.primary()
    await cluster.network.cut(others(primary), [primary.node.name], one_way=True)
    yield


@asynccontextmanager
async def one_host_without_primary(cluster: Cluster) -> AsyncIterator[None]:
    """One application host reaches the other members alone."""
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
    """The primary stands still, with its connections open."""
    primary = await cluster.primary()
    primary.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        primary.signal(signal.SIGCONT)


@asynccontextmanager
async def primary_killed(cluster: Cluster) -> AsyncIterator[None]:
    """The primary is killed, and started again at the end."""
    primary = await cluster.primary()
    await primary.kill()
    try:
        yield
    finally:
        await primary.start()


@asynccontextmanager
async def host_killed(cluster: Cluster) -> AsyncIterator[None]:
    """An application process is killed, and started again at the end."""
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
    """Each host loses packets."""
    await cluster.network.lose(LOSS)
    yield


@asynccontextmanager
async def clocks_wrong(cluster: Cluster) -> AsyncIterator[None]:
    """Beside the two hosts, others run whose clocks are wrong. None is ever ready."""
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
"""Faults that show all of their effect sooner, because the members need not notice first that the primary is gone."""


def name_of(fault: Fault) -> str:
    """Return what a fault is called."""
    return fault.__name__.replace("_", " ")
