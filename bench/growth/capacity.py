"""What machines like the measured one hold: computed from the measured cost of a secret, and so an estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..scenarios import GENERATE, OPEN, TEXT
from .comparison import markdown

USED = 0.5
"""The share of the processors that is in use: above it, waiting times grow fast, and no host could fail."""
DISK = 100_000_000_000
HOSTS = 3
DAY, WEEK = 86_400, 7 * 86_400
TEXTS = (TEXT, 10_000)
MICROSECONDS = 1e6
_LAYERS = ("worker_us", "nginx_us", "mongod_us")


@dataclass(frozen=True)
class Cost:
    """The processor time in microseconds to create a secret and open it once, in all layers and in MongoDB alone."""

    total: float
    mongod: float

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], variant: str) -> "Cost":
        """Return the cost under one condition, from the rows of a comparison."""
        found = {row["scenario"]: row for row in rows if row["variant"] == variant}
        pair = [found[GENERATE.name], found[OPEN.name]]
        return cls(sum(row[layer] for row in pair for layer in _LAYERS), sum(row["mongod_us"] for row in pair))


def capacity(stored: Mapping[str, Any], members: Mapping[str, Any], cores: int) -> str:
    """Return a table in Markdown of what one host and three hosts hold, from the parts stored and members.

    A host runs nginx, the workers and a member of the replica set.
    """
    space = stored["space"][-1]
    one = Cost.of(stored["speed"], f"{space['items']:,}")
    three = Cost.of(members["speed"], f"{HOSTS}")
    each = (space["data_bytes"] + space["index_bytes"]) / space["items"]
    budget = cores * MICROSECONDS * USED
    single, primary = budget / one.total, budget / (three.mongod * members["primary_share"])
    several = min(HOSTS * budget / three.total, primary)
    rows = [
        ("secrets created and opened per second", _number(single), _number(several)),
        ("the same per day", _number(single * DAY), _number(several * DAY)),
        ("limit of MongoDB's primary alone, per second", "", _number(primary)),
    ]
    for size in TEXTS:
        held = _number(DISK / (each + size - TEXT))
        rows.append((f"secrets of {size:,} bytes stored at once, on a disk of {DISK // 10**9} GB", held, held))
    sustained = _number(DISK / each / WEEK)
    rows.append((f"secrets of {TEXT} bytes created per second, if each is stored for 7 days", sustained, sustained))
    return markdown(("computed", "1 host", f"{HOSTS} hosts"), rows)


def _number(value: float) -> str:
    """Return a number with two significant digits: an estimate has no more."""
    return f"{float(f'{value:.2g}'):,.0f}"
