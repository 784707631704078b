"""The cost of a request with 3 MongoDB members instead of 1, each a host of its own in a network namespace.

All of them share the processors of this machine. So the processor time is that of three hosts, and the requests per
second are fewer than three hosts would serve.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.core.crypto.keys import ensure_key_file
from tests.hosts.cluster import MEMBERS, running_cluster
from tests.hosts.network import running_network

from ..processor_time import processor_time
from ..rounds import Server
from ..running_stack import ROOT, running_stack
from ..scenarios import GENERATE, OPEN
from ..supplies import Supplies
from .comparison import Comparison, Variant, compare

SCENARIOS = (GENERATE.name, OPEN.name)
_ALONE, _HOST = "db", "app"


@dataclass(frozen=True)
class Members:
    """The result: the cost for each replica set, and the primary's share of the time of 3 members."""

    comparison: Comparison
    primary_share: float

    @property
    def is_right(self) -> bool:
        """Whether all responses were right."""
        return self.comparison.is_right

    def tables(self) -> list[str]:
        """Return the table in Markdown."""
        return self.comparison.tables()

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"speed": self.comparison.to_document(), "primary_share": self.primary_share}


def measure_members(work: Path, environment: Mapping[str, str], *, seconds: int, rounds: int) -> Members:
    """Measure a stack on a host of its own for each replica set. Raises `NetworkError`."""
    return asyncio.run(_measure(work, environment, seconds, rounds))


async def _measure(work: Path, environment: Mapping[str, str], seconds: int, rounds: int) -> Members:
    with running_network([_ALONE, *MEMBERS, _HOST]) as network:
        async with AsyncExitStack() as stack:
            sets = {}
            for names in ((_ALONE,), MEMBERS):
                cluster = await stack.enter_async_context(
                    running_cluster(network, work / f"members-{len(names)}", members=names, hosts=())
                )
                sets[f"{len(names)}"] = (cluster.url, [one.pid for one in cluster.members.values()])
            task = {"sets": sets, "environment": dict(environment), "seconds": seconds, "rounds": rounds}
            command = network.nodes[_HOST].command(sys.executable, "-m", __spec__.name, str(work), json.dumps(task))
            members = sets[f"{len(MEMBERS)}"][1]
            before = [processor_time(pid).mongod for pid in members]
            await asyncio.to_thread(subprocess.run, command, cwd=ROOT, check=True)
            used = [processor_time(pid).mongod - start for pid, start in zip(members, before, strict=True)]
    # The primary does the most.
    return Members(Comparison.read(work / "members.json"), round(max(used) / sum(used), 3))


def _measure_from_here(
    work: Path, sets: Mapping[str, tuple[str, list[int]]], environment: Mapping[str, str], seconds: int, rounds: int
) -> None:
    """Run a stack for each replica set on this host, measure them in turns, and write the result."""
    with ExitStack() as stack:
        variants = []
        for count, (mongo_url, pids) in sets.items():
            data_dir = work / f"host-{count}"
            keys = ensure_key_file(data_dir / "keys")
            running = stack.enter_context(
                running_stack(
                    data_dir=data_dir,
                    log_dir=work / f"host-{count}-logs",
                    environment={
                        **environment,
                        "SEALPOST_MONGO_URL": mongo_url,
                        "SEALPOST_KEYS_FILE": str(keys),
                    },
                )
            )
            server = Server(running.url, (running.launcher.pid, *pids), Supplies(running.url, data_dir, mongo_url))
            variants.append(Variant(count, server))
        compare("MongoDB members", variants, SCENARIOS, seconds=seconds, rounds=rounds).write(work / "members.json")


if __name__ == "__main__":
    _measure_from_here(Path(sys.argv[1]), **json.loads(sys.argv[2]))
