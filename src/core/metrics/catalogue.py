"""Every metric of the service: its name, its labels, and what it counts.

No label names a user, an address, a key or a path: each takes its values from a short list that the code has.
"""

from prometheus_client import disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ... import __version__
from ...settings import Settings
from .instruments import Definition, Instruments
from .storage import Memory, SharedDirectory, Storage

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """What one process counts, and how it is read; without a storage, nothing is counted."""

    def __init__(self, storage: Storage | None) -> None:
        # A second time series for each, of when it was made, is not in the text format but in OpenMetrics.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._storage = storage
        make = Instruments(storage)
        self._requests = make.histogram(
            "sealpost_request_duration_seconds",
            "Answers by a worker, by the seconds that they took.",
            *("method", "route", "status"),
            buckets=REQUEST_SECONDS,
        )
        self.unexpected_errors = make.counter(
            "sealpost_unexpected_errors_total", "Answers 500: a fault in Sealpost."
        ).child()
        make.gauge("sealpost_build_info", "The version that runs; always 1.", "version").child(__version__).set(1)
        self.definitions: tuple[Definition, ...] = tuple(make.definitions)

    @classmethod
    def off(cls) -> "Metrics":
        """Return metrics that count nothing."""
        return cls(None)

    @classmethod
    def of(cls, settings: Settings, worker: str) -> "Metrics":
        """Return metrics as they are set, of a process of this name. Raises `StorageError`."""
        if settings.metrics == "off":
            return cls.off()
        if settings.metrics_dir:
            return cls(SharedDirectory(settings.metrics_dir, worker))
        return cls(Memory(worker))

    @property
    def are_on(self) -> bool:
        """Tell whether anything is counted."""
        return self._storage is not None

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer; the route is a template, never a path."""
        self._requests.child(method, route, f"{status // 100}xx").observe(seconds)

    def collect(self) -> str:
        """Return all that is counted, by all processes that share it, as text; takes tens of milliseconds."""
        return "" if self._storage is None else generate_latest(self._storage).decode()

    def close(self) -> None:
        """Take back what is true of a living process alone."""
        if self._storage is not None:
            self._storage.close()
