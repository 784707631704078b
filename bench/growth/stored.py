"""The cost of creating and opening with more and more stored items, and the space that an item takes."""

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from src.core.database.embedded import embedded_mongod, replica_set
from src.core.files import read_number, read_secret
from src.sealed.items import COLLECTION

from ..rounds import Server
from ..running_stack import running_stack
from ..scenarios import GENERATE, OPEN, TEXT, text_of
from ..supplies import Supplies
from .comparison import Comparison, Variant, compare, markdown

SCENARIOS = (GENERATE.name, OPEN.name)
DATABASE = "sealpost"
_PATTERNS = 100
"""Items made by the service itself; the others are copies of these with random ids and random content."""
_INSERTED_AT_ONCE = 5000
_THREADS = 2
_LIFE = timedelta(days=7)


@dataclass(frozen=True)
class Space:
    """The bytes of a collection of items: of each document, and on the disk, with and without the indexes."""

    items: int
    document_bytes: int
    data_bytes: int
    index_bytes: int

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table."""
        total = self.data_bytes + self.index_bytes
        return (
            f"{self.items:,}",
            f"{self.document_bytes:,}",
            *(f"{each / 1e6:,.1f}" for each in (self.data_bytes, self.index_bytes)),
            f"{total / self.items:,.0f}",
        )


@dataclass(frozen=True)
class Stored:
    """The result: the speed at each number of items, and their space."""

    comparison: Comparison
    spaces: list[Space]

    @property
    def is_right(self) -> bool:
        """Whether all responses were right."""
        return self.comparison.is_right

    def tables(self) -> list[str]:
        """Return the tables in Markdown."""
        head = ("stored items", "bytes of a document", "documents, MB", "indexes, MB", "bytes on disk for each item")
        return [*self.comparison.tables(), markdown(head, (one.cells() for one in self.spaces))]

    def to_document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"speed": self.comparison.to_document(), "space": [asdict(one) for one in self.spaces]}


def measure_stored(
    work: Path, counts: Sequence[int], environment: Mapping[str, str], *, seconds: int, rounds: int
) -> Stored:
    """Run a stack for each number of items at the same time, and measure them in turns."""
    with ExitStack() as stack:
        variants, spaces = [], []
        for count in sorted(counts):
            data_dir = work / f"stored-{count}"
            running = stack.enter_context(
                running_stack(data_dir=data_dir, log_dir=work / f"{data_dir.name}-logs", environment=environment)
            )
            supplies = Supplies(running.url, data_dir)
            spaces.append(_fill(data_dir, supplies, count))
            variants.append(Variant(f"{count:,}", Server(running.url, (running.launcher.pid,), supplies)))
        return Stored(compare("stored items", variants, SCENARIOS, seconds=seconds, rounds=rounds), spaces)


def _fill(data_dir: Path, supplies: Supplies, count: int) -> Space:
    """Store items until there are ``count``, and write them to the disk, so that no measurement includes that."""
    supplies.keys(min(count, _PATTERNS), text_of(TEXT))
    port, key = read_number(data_dir / "mongo" / "port"), read_secret(data_dir / "mongo" / "key")
    if port is None or key is None:
        raise FileNotFoundError(data_dir / "mongo")
    # Not waiting for the journal: nobody relies on these items.
    with (
        embedded_mongod(data_dir) as url,
        MongoClient[dict[str, Any]](url, w=1, journal=False) as client,
        ThreadPoolExecutor(_THREADS) as threads,
    ):
        items = client[DATABASE][COLLECTION]
        patterns = list(items.find())
        batches = list(_batches(count - len(patterns)))

        def insert(size: int) -> int:
            items.insert_many([_copy(random.choice(patterns)) for _ in range(size)], ordered=False)  # noqa: S311
            return size

        done = len(patterns)
        for size in threads.map(insert, batches):
            done += size
            print(f"\rstored items: {done:,} of {count:,}", end="", flush=True)
        print()
        with replica_set.connect_as_system(port, key) as system:
            system.admin.command("fsync")
        stats = client[DATABASE].command("collStats", COLLECTION)
    return Space(stats["count"], stats["avgObjSize"], stats["storageSize"], stats["totalIndexSize"])


def _batches(count: int) -> Iterator[int]:
    while count > 0:
        yield min(count, _INSERTED_AT_ONCE)
        count -= _INSERTED_AT_ONCE


def _copy(pattern: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document of the same size that does not expire during the measurements."""
    now = datetime.now(UTC)
    ends = now + timedelta(days=1) + _LIFE * random.random()  # noqa: S311
    return {
        **pattern,
        "_id": os.urandom(len(pattern["_id"])),
        "envelope": os.urandom(len(pattern["envelope"])),
        "created_at": now,
        "expires_at": ends,
        "delete_at": ends,
    }
