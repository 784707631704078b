"""The cost of a request with fewer workers: the others are stopped by supervisord, as a restart stops them."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from src.core.supervisor import Supervisor, worker_name
from src.core.workers import WORKERS, UnixConnection, is_ready, worker_sockets

from ..rounds import Server
from ..running_stack import running_stack
from ..scenarios import GENERATE, OPEN
from ..supplies import Supplies
from .comparison import Comparison, Variant, compare

SCENARIOS = ("healthz", GENERATE.name, OPEN.name)
_PATIENCE = 60.0


def measure_workers(work: Path, environment: Mapping[str, str], *, seconds: int, rounds: int) -> Comparison:
    """Measure a stack with 1 worker up to all of them."""
    data_dir = work / "workers"
    with running_stack(data_dir=data_dir, log_dir=work / "workers-logs", environment=environment) as running:
        server = Server(running.url, (running.launcher.pid,), Supplies(running.url, data_dir))
        variants = [
            Variant(f"{count}", server, partial(_run_workers, running.run_dir, count))
            for count in range(1, WORKERS + 1)
        ]
        return compare("workers", variants, SCENARIOS, seconds=seconds, rounds=rounds)


def _run_workers(run_dir: Path, count: int) -> None:
    supervisor = Supervisor(run_dir)
    for number, state in supervisor.workers().items():
        if number > count:
            supervisor.stop(worker_name(number))
        elif not state.pid:
            supervisor.start(worker_name(number))
    until = time.monotonic() + _PATIENCE
    while not all(is_ready(UnixConnection(path)) for path in worker_sockets(run_dir)[:count]):
        if time.monotonic() > until:
            raise TimeoutError("the workers are not ready")
        time.sleep(0.1)
