"""Instruments, and families of instruments: a metric with a child for each set of label values."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import prometheus_client

from .storage import Storage

WORKER = "worker"
Instrument = TypeVar("Instrument")


class Counter(Protocol):
    """A value that only increases."""

    def inc(self, amount: float = 1) -> None:
        """Add to it."""


class Gauge(Protocol):
    """A current value."""

    def inc(self, amount: float = 1) -> None:
        """Add to it."""

    def dec(self, amount: float = 1) -> None:
        """Take from it."""

    def set(self, value: float) -> None:
        """Replace it."""


class Histogram(Protocol):
    """A distribution of values."""

    def observe(self, amount: float) -> None:
        """Record a value."""


class Nothing:
    """An instrument of every kind that counts nothing."""

    def inc(self, amount: float = 1) -> None:
        """Do nothing."""

    def dec(self, amount: float = 1) -> None:
        """Do nothing."""

    def set(self, value: float) -> None:
        """Do nothing."""

    def observe(self, amount: float) -> None:
        """Do nothing."""


NOTHING = Nothing()


class Definition(NamedTuple):
    """The definition of a metric."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Family(Generic[Instrument]):
    """A metric with labels. Its children, one for each set of label values, are created on first use."""

    def __init__(self, metric: Any, storage: Storage | None, constant: tuple[str, ...] = ()) -> None:
        self._metric = metric
        self._storage = storage
        self._constant = constant
        self._children: dict[tuple[str, ...], Instrument] = {}

    def child(self, *labels: str) -> Instrument:
        """Return the instrument for these label values."""
        child = self._children.get(labels)
        return self._made(labels) if child is None else child

    def _made(self, labels: tuple[str, ...]) -> Instrument:
        child: Any = NOTHING
        if self._storage is not None:
            values = labels + self._constant
            with self._storage.making():
                child = self._metric.labels(*values) if values else self._metric
        self._children[labels] = child
        return child  # type: ignore[no-any-return]  # the library's classes have these methods


class Instruments:
    """Creates families with values in one storage; without a storage, families that count nothing."""

    def __init__(self, storage: Storage | None) -> None:
        self._storage = storage
        self.definitions: list[Definition] = []

    def counter(self, name: str, meaning: str, *labels: str) -> Family[Counter]:
        """Return a counter; its name ends in ``_total``."""
        return self._family(prometheus_client.Counter, "counter", name, meaning, labels)

    def gauge(self, name: str, meaning: str, *labels: str, outlives: bool = False) -> Family[Gauge]:
        """Return a gauge with the label ``worker``. It disappears with its process, unless it ``outlives`` it."""
        mode = "sum" if outlives else "livesum"
        return self._family(prometheus_client.Gauge, "gauge", name, meaning, (*labels, WORKER), multiprocess_mode=mode)

    def histogram(self, name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Family[Histogram]:
        """Return a histogram with these upper bounds."""
        return self._family(prometheus_client.Histogram, "histogram", name, meaning, labels, buckets=buckets)

    def _family(
        self, make: Any, kind: str, name: str, meaning: str, labels: tuple[str, ...], **options: Any
    ) -> Family[Any]:
        self.definitions.append(Definition(name, kind, labels, meaning))
        if self._storage is None:
            return Family(None, None)
        with self._storage.making():
            metric = make(name, meaning, labels, registry=self._storage.registry, **options)
        return Family(metric, self._storage, (self._storage.worker,) if WORKER in labels else ())


class Stopwatch:
    """Measures a block of code (``with stopwatch:``), except while it is paused."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._left_out = 0.0
        self._began = 0.0

    def __enter__(self) -> "Stopwatch":
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._histogram.observe(time.perf_counter() - self._began - self._left_out)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pause for a block."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._left_out += time.perf_counter() - began
