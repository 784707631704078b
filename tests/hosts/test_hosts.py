"""Two application hosts and 3 MongoDB members under faults: acknowledged operations stay true."""

import asyncio
import time

import pytest

from ..processes import PATIENCE
from .checker import check
from .cluster import Cluster
from .conftest import SECONDS
from .faults import FAULTS, WITHOUT_ELECTION, Fault, name_of
from .history import Kind, Operation, Outcome
from .load import clients
from .report import FaultReport

pytestmark = pytest.mark.hosts

BEFORE, AFTER = 1.0, 2.0
"""Seconds of load before the fault, and after recovery from it."""


@pytest.mark.parametrize("fault", FAULTS, ids=name_of)
async def test_fault(fault: Fault, cluster: Cluster, report: FaultReport) -> None:
    """No response to a client turns out to be wrong after a fault."""
    name = name_of(fault)
    async with clients(cluster, f"f{FAULTS.index(fault)}") as load:
        running = asyncio.create_task(load.run())
        try:
            await asyncio.sleep(BEFORE)
            begin = time.monotonic()
            try:
                async with fault(cluster):
                    await asyncio.sleep(SECONDS / 2 if fault in WITHOUT_ELECTION else SECONDS)
            finally:
                await cluster.network.heal()
            healed = time.monotonic()
            load.history.append(Operation(Kind.FAULT, name, "", begin, healed, Outcome.OK))
            await load.created_everywhere(healed)
            await asyncio.sleep(AFTER)
        finally:
            load.stop()
            await asyncio.wait_for(running, PATIENCE)
        await asyncio.wait_for(load.read_final_state(), 2 * PATIENCE)
    seen = {one.kind for one in load.history if one.is_ok}
    violations = check(load.history)
    report.add(name, load.history, len(violations))

    assert set(Kind) - {Kind.GUESS} <= seen
    assert [] == [str(violation) for violation in violations]
