"""The cost of deleting abandoned uploads: secrets created and opened per second before, while and after it runs."""

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from src.core.database.embedded import embedded_mongod, replica_set
from src.core.files import read_number, read_secret

from .fill import fill, read_ring
from .fill_uploads import CHUNKS, UPLOADS, connect, fill_uploads
from .running_stack import RunningStack, running_stack
from .wrk import Load, Measurement, run_wrk

CONNECTIONS = 32
CREATING, OPENING = "POST /generate", "POST /secrets/{key}"
SECRET = json.dumps({"secret": "0123456789abcdef" * 2})
OPENINGS_PER_SECOND = 5000
PATIENCE = 600.0
PHASES = BEFORE, WHILE, AFTER = ("before", "while", "after")


@dataclass(frozen=True)
class ExpiryResult:
    """The result of MongoDB deleting expired documents under load.

    ``deleted_per_second`` counts the documents deleted under load, and ``left`` those that still existed at its end.
    The ratios compare requests per second during the deletion with the mean of before and after.
    """

    documents: int
    deleted_per_second: float
    left: int
    seconds_until_gone: float
    creating_ratio: float
    opening_ratio: float
    figures: tuple[Measurement, ...]

    @property
    def errors(self) -> int:
        """The number of wrong and missing responses."""
        return sum(figure.errors for figure in self.figures)

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def measure_expiry(directory: Path, uploads: int, seconds: int) -> ExpiryResult:
    """Put expired uploads into the database of a stack, and measure it while MongoDB deletes them."""
    data_dir = directory / "expiry"
    environment = {"SEALPOST_RATE_LIMITS": "off"}
    with (
        running_stack(data_dir=data_dir, log_dir=directory / "expiry-logs", environment=environment) as running,
        embedded_mongod(data_dir) as url,
        connect(url) as mongo,
        _ttl_monitor(data_dir) as monitor,
    ):
        monitor.stop()
        ring = read_ring(data_dir)
        keys = {
            phase: _keys(data_dir / phase, asyncio.run(fill(url, ring, OPENINGS_PER_SECOND * seconds)))
            for phase in PHASES
        }
        database = mongo["sealpost"]
        fill_uploads(database, uploads)
        total = _count(database)
        print(f"{total:,} expired documents in the database", flush=True)
        run_wrk(running.url, "warm-up", CONNECTIONS, Load("POST", "/generate", 201, SECRET), 1)
        figures = _measure(running, BEFORE, keys[BEFORE], seconds)
        monitor.start()
        began = time.monotonic()
        figures += _measure(running, WHILE, keys[WHILE], seconds)
        left, loaded = _count(database), time.monotonic() - began
        _await_none(database)
        gone = time.monotonic() - began
        figures += _measure(running, AFTER, keys[AFTER], seconds)
    rates = [figure.per_second for figure in figures]
    return ExpiryResult(
        documents=total,
        deleted_per_second=round((total - left) / loaded, 1),
        left=left,
        seconds_until_gone=round(gone, 1),
        creating_ratio=round(2 * rates[2] / (rates[0] + rates[4]), 3),
        opening_ratio=round(2 * rates[3] / (rates[1] + rates[5]), 3),
        figures=tuple(figures),
    )


class _Monitor:
    """The thread of MongoDB that deletes expired documents."""

    def __init__(self, system: Any) -> None:
        self._system = system

    def stop(self) -> None:
        """Keep expired documents."""
        self._system.admin.command("setParameter", 1, ttlMonitorEnabled=False)

    def start(self) -> None:
        """Delete expired documents from now on, with a pass each second."""
        self._system.admin.command("setParameter", 1, ttlMonitorSleepSecs=1)
        self._system.admin.command("setParameter", 1, ttlMonitorEnabled=True)


@contextmanager
def _ttl_monitor(data_dir: Path) -> Iterator[_Monitor]:
    port, key = read_number(data_dir / "mongo" / "port"), read_secret(data_dir / "mongo" / "key")
    if port is None or key is None:
        raise FileNotFoundError(data_dir / "mongo")
    with replica_set.connect_as_system(port, key) as system:
        yield _Monitor(system)


def _measure(running: RunningStack, phase: str, keys: Path, seconds: int) -> list[Measurement]:
    loads = {
        CREATING: Load("POST", "/generate", 201, SECRET),
        OPENING: Load("POST", "/secrets/", 200, keys=keys),
    }
    figures = [run_wrk(running.url, f"{phase}: {name}", CONNECTIONS, load, seconds) for name, load in loads.items()]
    for figure in figures:
        print(
            f"{figure.name:<32}{figure.per_second:>9,.0f} per s, p50 {figure.p50_ms:.1f} ms, p99"
            f" {figure.p99_ms:.1f} ms, {figure.errors} errors",
            flush=True,
        )
    return figures


def _keys(path: Path, keys: list[str]) -> Path:
    path.write_text("\n".join(keys) + "\n", encoding="ascii")
    return path


def _count(database: Any) -> int:
    return sum(int(database[name].estimated_document_count()) for name in (UPLOADS, CHUNKS))


def _await_none(database: Any) -> None:
    until = time.monotonic() + PATIENCE
    while _count(database):
        if time.monotonic() > until:
            raise TimeoutError("MongoDB has not deleted the expired documents")
        time.sleep(0.1)
