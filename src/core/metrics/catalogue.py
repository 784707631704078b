"""All metrics of the service, with their names, labels and meanings.

No label identifies a user, an address, a key or a path: label values come from short lists in the code.
"""

from typing import Literal

from prometheus_client import disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ... import __version__
from ...settings import Settings
from .instruments import WORKER, Definition, Instruments
from .storage import Memory, SharedDirectory, Storage

MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
REQUEST_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
AUTHENTICATION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
HASHING_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
MONGO_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Work = Literal["phrase", "password"]
"""The purpose of a password hash."""


class Metrics:
    """The metrics of one process; without a storage, nothing is counted.

    An attribute is either a family, whose children carry label values, or an instrument.
    """

    def __init__(self, storage: Storage | None) -> None:
        # The time series of creation times belong to OpenMetrics, not to the text format.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._storage = storage
        make = Instruments(storage)
        self._requests = make.histogram(
            "sealpost_request_duration_seconds",
            "Duration of requests in a worker.",
            *("method", "route", "status"),
            buckets=REQUEST_SECONDS,
        )
        self.unexpected_errors = make.counter(
            "sealpost_unexpected_errors_total", "Responses with status 500: bugs in Sealpost."
        ).child()
        self.damaged = make.counter(
            "sealpost_damaged_total",
            "Stored data that could not be decrypted: modified in the database, or its key is not in the key ring.",
        ).child()
        self.authentication = make.histogram(
            "sealpost_authentication_duration_seconds",
            "Duration of authentication, whatever the result, without hashing.",
            "credential",
            buckets=AUTHENTICATION_SECONDS,
        )
        self.limit_refusals = make.counter("sealpost_limit_refusals_total", "Requests rejected by a limit.", "limit")
        self.items = make.counter(
            "sealpost_items_total",
            "Events of secrets and messages.",
            *("kind", "event"),
        )
        self.held_openings = make.counter("sealpost_held_openings_total", "Events of held openings.", "event")
        self.uploads = make.counter("sealpost_uploads_total", "Events of uploaded files.", "event")
        self.upload_bytes = make.counter("sealpost_upload_bytes_total", "Bytes of uploaded files stored.").child()
        self.downloads = make.counter("sealpost_downloads_total", "Downloads of files and of parts of them.", "event")
        self.download_bytes = make.counter("sealpost_download_bytes_total", "Bytes of files sent.").child()
        self.gathered_messages = make.counter("sealpost_gathered_messages_total", "Gathered messages stored.").child()
        self.dump_is_stuck = make.gauge(
            "sealpost_dump_stuck", "1 while this worker cannot write the dump of gathered messages; otherwise 0."
        ).child()
        self.audit_dropped = make.counter(
            "sealpost_audit_dropped_total", "Audit events that were not stored, because MongoDB did not answer in time."
        ).child()
        self.ended_sessions_known = make.gauge(
            "sealpost_ended_sessions_known_timestamp_seconds",
            "Time of this worker's last successful query for ended sessions.",
        ).child()
        self.clock_offset = make.gauge(
            "sealpost_clock_offset_seconds",
            "Offset of this worker's clock from MongoDB's: positive if ahead. Measured every minute.",
        ).child()
        self._prepare_storage(make)
        self._prepare_load(make)
        self._prepare_process(make)
        self.definitions: tuple[Definition, ...] = tuple(make.definitions)

    def _prepare_storage(self, make: Instruments) -> None:
        self.storage_used = make.gauge(
            "sealpost_storage_used_bytes", "Size of documents and indexes in the database."
        ).child()
        self.storage_max = make.gauge("sealpost_storage_max_bytes", "SEALPOST_STORAGE_MAX; 0 without a limit.").child()
        self.storage_free = make.gauge("sealpost_storage_free_bytes", "Free bytes on MongoDB's disk.").child()
        self.storage_reserve = make.gauge(
            "sealpost_storage_reserve_bytes", "Bytes to keep free on MongoDB's disk."
        ).child()
        self.storage_room = make.gauge(
            "sealpost_storage_room_bytes", "Bytes that can be stored before a limit is reached."
        ).child()
        self.creating_is_paused = make.gauge(
            "sealpost_creating_paused", "1 while this worker rejects new content because storage is full; otherwise 0."
        ).child()
        self.storage_refusals = make.counter(
            "sealpost_storage_refusals_total", "Requests answered 507 because storage is full.", "reason"
        )

    def _prepare_load(self, make: Instruments) -> None:
        self.batch_requests = make.histogram(
            "sealpost_batch_requests", "Requests per MongoDB command in group commit.", "command", buckets=BATCH_SIZES
        )
        self.batch_queue_depth = make.gauge(
            "sealpost_batch_queue_depth", "Requests that wait for a command in group commit.", "command"
        )
        self.hashing_duration = make.histogram(
            "sealpost_hashing_duration_seconds",
            "Duration of password hashing on a thread.",
            "work",
            buckets=HASHING_SECONDS,
        )
        self.hashing_wait = make.histogram(
            "sealpost_hashing_wait_seconds",
            "Time that hashing waited for a thread.",
            "work",
            buckets=HASHING_SECONDS,
        )
        self.hashing_pending = make.gauge("sealpost_hashing_pending", "Hashing jobs that run or wait.").child()
        self.hashing_refusals = make.counter(
            "sealpost_hashing_refusals_total", "Hashing jobs rejected because too many were waiting."
        ).child()
        self.mongo_commands = make.histogram(
            "sealpost_mongo_command_duration_seconds",
            "Duration of MongoDB commands as seen by the driver.",
            *("command", "outcome"),
            buckets=MONGO_SECONDS,
        )
        self.mongo_connections = make.gauge(
            "sealpost_mongo_connections", "Connections to MongoDB: open, and of these in use.", "state"
        )

    def _prepare_process(self, make: Instruments) -> None:
        self.resident_memory = make.gauge("sealpost_process_resident_memory_bytes", "Resident memory.").child()
        self.open_fds = make.gauge("sealpost_process_open_fds", "Open file descriptors.").child()
        self.start_time = make.gauge("sealpost_process_start_time_seconds", "Start time of the process.").child()
        self.seen_time = make.gauge(
            "sealpost_process_seen_timestamp_seconds",
            "Time of the last update of the process's own metrics, every 5 s.",
            outlives=True,
        ).child()
        self.event_loop_lag = make.gauge(
            "sealpost_event_loop_lag_seconds", "Maximum lag of the event loop in the last 5 s."
        ).child()
        self.cpu = make.counter("sealpost_process_cpu_seconds_total", "CPU time.", WORKER).child()
        make.gauge("sealpost_build_info", "Always 1; the label has the running version.", "version").child(
            __version__
        ).set(1)

    @classmethod
    def off(cls) -> "Metrics":
        """Return metrics that count nothing."""
        return cls(None)

    @classmethod
    def of(cls, settings: Settings, worker: str) -> "Metrics":
        """Return the metrics of a process of this name, as configured. Raises `StorageError`."""
        if settings.metrics == "off":
            return cls.off()
        if settings.metrics_dir:
            return cls(SharedDirectory(settings.metrics_dir, worker))
        return cls(Memory(worker))

    @property
    def are_on(self) -> bool:
        """Whether metrics are counted."""
        return self._storage is not None

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a response; the route is a template, never a path."""
        self._requests.child(method, route, f"{status // 100}xx").observe(seconds)

    def collect(self) -> str:
        """Return the metrics of all processes that share the storage as text; takes tens of milliseconds."""
        return "" if self._storage is None else generate_latest(self._storage).decode()

    def close(self) -> None:
        """Remove the values that hold only for a running process."""
        if self._storage is not None:
            self._storage.close()
