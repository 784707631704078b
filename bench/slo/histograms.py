"""Histograms of Prometheus: read from /metrics, and what was added between two readings."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class CounterResetError(Exception):
    """A count is lower than it was: the service was restarted in between, and began anew."""


@dataclass(frozen=True)
class Histogram:
    """How many observations, in all, were at most as large as each bound; the last bound is infinite."""

    buckets: Mapping[float, float]

    @property
    def count(self) -> int:
        """Return how many observations there are."""
        return int(self.buckets.get(math.inf, 0))

    def share_within(self, bound: float) -> float:
        """Return the share of observations at or under a bound of the buckets. Raises `KeyError` for another one."""
        return self.buckets[bound] / self.buckets[math.inf]

    def quantile(self, share: float) -> float:
        """Estimate a quantile as Prometheus does: evenly spread in its bucket; in the last one, that one's lower bound.

        Raises `ValueError` where there are no observations.
        """
        if not self.count:
            raise ValueError("no observations")
        rank = share * self.buckets[math.inf]
        lower, below = 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank:
                if math.isinf(bound):
                    return lower
                return lower + (bound - lower) * (rank - below) / (count - below) if count > below else bound
            lower, below = bound, count
        return lower

    def since(self, before: "Histogram") -> "Histogram":
        """Return what was added. Raises `CounterResetError`."""
        added = {bound: count - before.buckets.get(bound, 0) for bound, count in self.buckets.items()}
        if any(count < 0 for count in added.values()):
            raise CounterResetError
        return Histogram(added)


def read_histogram(exposition: str, name: str, **labels: str) -> Histogram:
    """Return a histogram from Prometheus' text format: the sum of all series with these labels; empty without any."""
    buckets: dict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples if family.name == name else ():
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                buckets[float(sample.labels["le"])] += sample.value
    return Histogram(dict(buckets))
