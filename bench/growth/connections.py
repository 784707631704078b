"""The cost of a request with more and more connections."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..rounds import Server
from ..running_stack import running_stack
from ..scenarios import GENERATE, OPEN
from ..supplies import Supplies
from .comparison import Comparison, Variant, compare

SCENARIOS = ("healthz", GENERATE.name, OPEN.name)
COUNTS = (128, 512, 2000)


def measure_connections(
    work: Path, environment: Mapping[str, str], counts: Sequence[int] = COUNTS, *, seconds: int, rounds: int
) -> Comparison:
    """Measure one stack with each number of connections."""
    data_dir = work / "connections"
    with running_stack(data_dir=data_dir, log_dir=work / "connections-logs", environment=environment) as running:
        server = Server(running.url, (running.launcher.pid,), Supplies(running.url, data_dir))
        variants = [Variant(f"{count:,}", server, connections=count) for count in counts]
        return compare("connections", variants, SCENARIOS, seconds=seconds, rounds=rounds)
