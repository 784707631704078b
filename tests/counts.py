"""Parsed responses of `/metrics`."""

from dataclasses import dataclass
from functools import cached_property

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample


@dataclass(frozen=True)
class Counts:
    """One response of `/metrics`."""

    text: str

    @cached_property
    def samples(self) -> list[Sample]:
        """All time series."""
        return [sample for family in text_string_to_metric_families(self.text) for sample in family.samples]

    def series(self, name: str, **labels: str) -> list[Sample]:
        """Return the time series of a name whose labels include these."""
        return [
            sample for sample in self.samples if sample.name == name and labels.items() <= dict(sample.labels).items()
        ]

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of those time series."""
        return sum(sample.value for sample in self.series(name, **labels))

    def values(self, name: str, label: str) -> set[str]:
        """Return the values of a label."""
        return {sample.labels[label] for sample in self.series(name)}

    def requests(self) -> dict[tuple[str, str, str], int]:
        """Return the number of requests by method, route and status class, without scrapes."""
        return {
            (one.labels["method"], one.labels["route"], one.labels["status"]): int(one.value)
            for one in self.series("sealpost_request_duration_seconds_count")
            if one.labels["route"] != "/metrics"
        }
