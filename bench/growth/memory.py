"""The memory of each worker over many requests of every kind."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from ..processor_time import memory
from ..rounds import HEAD, Rounds, Server
from ..running_stack import RunningStack, running_stack
from ..scenarios import CONNECTIONS, Case
from ..supplies import Supplies
from .comparison import markdown

SCENARIOS = ("generate", "healthz", "open", "echo", "message", "message-read", "post", "like", "gather")
SHARES = 10
"""The memory is read after each of these equal shares of the requests."""


@dataclass(frozen=True)
class Residents:
    """The resident size of each worker in bytes after a number of requests."""

    requests: int
    workers: Sequence[int]

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        smallest, largest = (f"{each(self.workers) / 1e6:.1f}" for each in (min, max))
        return f"{self.requests:,}", smallest, largest


@dataclass(frozen=True)
class Memory:
    """The result: the memory at rest and after each share of the requests, and whether all responses were right."""

    rows: list[Residents]
    is_right: bool

    def tables(self) -> list[str]:
        """Return the table in Markdown."""
        return [markdown(("requests", "smallest worker, MB", "largest worker, MB"), (one.cells() for one in self.rows))]

    def to_document(self) -> list[dict[str, Any]]:
        """Return it as JSON."""
        return [asdict(one) for one in self.rows]


def measure_memory(work: Path, environment: Mapping[str, str], *, requests: int, seconds: int) -> Memory:
    """Send requests of each kind in turn, and read the memory at the start and after each share of them."""
    data_dir = work / "memory"
    rounds = Rounds(seconds)
    with running_stack(data_dir=data_dir, log_dir=work / "memory-logs", environment=environment) as running:
        server = Server(running.url, (running.launcher.pid,), Supplies(running.url, data_dir))
        rows = [Residents(0, _residents(running))]
        print(f"\nmemory\n{HEAD}", flush=True)
        for number, sent in _served(rounds, server, seconds):
            if sent >= requests * len(rows) / SHARES:
                rows.append(Residents(sent, _residents(running)))
                print(f"- {number + 1} runs: {' to '.join(rows[-1].cells()[1:])} MB", flush=True)
            if sent >= requests:
                return Memory(rows, rounds.are_right)
    raise AssertionError


def _served(rounds: Rounds, server: Server, seconds: int) -> Iterator[tuple[int, int]]:
    """Measure one scenario after the other, and yield the number of each run and all requests served until then."""
    sent = 0
    for number, scenario in enumerate(cycle(SCENARIOS)):
        rounds.measure(number, Case(scenario, CONNECTIONS), server)
        sent += round(rounds.figures[-1].measurement.per_second * seconds)
        yield number, sent


def _residents(running: RunningStack) -> list[int]:
    return [memory(pid, "VmRSS") for pid in running.worker_pids()]
