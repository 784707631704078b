"""Prometheus histograms: snapshots from /metrics, and the difference of two snapshots."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


class CounterResetError(Exception):
    """A counter decreased: the service was restarted between two snapshots."""


@dataclass(frozen=True)
class HistogramSnapshot:
    """The cumulative number of observations up to each bound; the last bound is infinite."""

    buckets: Mapping[float, float]

    @property
    def count(self) -> int:
        """The number of observations."""
        return int(self.buckets.get(math.inf, 0))

    def share_within(self, bound: float) -> float:
        """Return the share of observations up to the bound of a bucket. Raises `KeyError` for any other bound."""
        return self.buckets[bound] / self.buckets[math.inf]

    def quantile(self, share: float) -> float:
        """Estimate a quantile as Prometheus does: by linear interpolation; in the last bucket, its lower bound.

        Raises `ValueError` without observations.
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

    def since(self, before: "HistogramSnapshot") -> "HistogramSnapshot":
        """Return the observations since an earlier snapshot. Raises `CounterResetError`."""
        added = {bound: count - before.buckets.get(bound, 0) for bound, count in self.buckets.items()}
        if any(count < 0 for count in added.values()):
            raise CounterResetError
        return HistogramSnapshot(added)


def read_histogram(exposition: str, name: str, **labels: str) -> HistogramSnapshot:
    """Parse a histogram from the Prometheus text format: the sum of all series with these labels, or empty."""
    buckets: dict[float, float] = defaultdict(float)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples if family.name == name else ():
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items():
                buckets[float(sample.labels["le"])] += sample.value
    return HistogramSnapshot(dict(buckets))
