"""Where counts are kept: in memory, or in files that the processes of one host share.

In the shared directory each process has files of its own, under a name that its successor takes over and goes on
counting in. So nothing is lost with a process that is killed, and a crash loop leaves no heap of files. The files are
prometheus-client's, which maps them into memory: counting is no system call.
"""

import json
import math
import os
import stat
import struct
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import structlog
from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from ..files import is_locked, replacing, take_lock

DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
FILE_SIZES = {"counter": 1 << 16, "histogram": 1 << 20, "gauge_livesum": 1 << 16, "gauge_sum": 1 << 16}
"""Bytes of each file; more than all that can be counted needs."""
PATIENCE = 15.0
"""Seconds that a process waits for the name of one that is ending; supervisord kills that one after as many."""
NOTICEABLE, PAUSE = 0.5, 0.05

log = structlog.get_logger(__name__)

# Process-wide, because the library is: when it creates a metric or a child, it looks up the class of its values and the
# directory of their files in a global of its own and an environment variable. `_library_storing` alone changes these,
# under this lock, and restores them.
_library = threading.Lock()


class StorageError(OSError):
    """The directory of counts cannot be used; the message says why and what to do."""


class Storage(Protocol):
    """What keeps the counts of the process that is called ``worker``."""

    worker: str

    @property
    def registry(self) -> CollectorRegistry | None:
        """What its metrics register with, if the library shall find them there."""

    def making(self) -> AbstractContextManager[None]:
        """Let what the library makes inside the block keep its values here."""

    def collect(self) -> Iterable[Metric]:
        """Return all metrics with their values."""

    def close(self) -> None:
        """Take back what is true of a living process alone."""


class Memory:
    """The counts of one process alone."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.registry = CollectorRegistry()

    @contextmanager
    def making(self) -> Iterator[None]:
        """Let what the library makes inside the block keep its values here."""
        with _library_storing(values.MutexValue):
            yield

    def collect(self) -> Iterable[Metric]:
        """Return all metrics with their values."""
        return self.registry.collect()

    def close(self) -> None:
        """Do nothing: they end with the process."""


class SharedDirectory:
    """The counts of this process, one of those that share a directory; collected are those of all.

    ``worker`` names the process and its predecessors. Raises `StorageError` for a directory that is not the process's
    own and private, and where another living process has the name.
    """

    registry = None

    def __init__(self, directory: Path, worker: str) -> None:
        self.worker = worker
        self._directory = directory
        _make_private(directory)
        # Until the process ends, whatever ends it: a value that a dying one wrote late would undo its successor's.
        self._lock = _hold(directory, worker)
        for path in self._own("*"):
            if not is_sound(path):
                path.unlink()
                log.warning("corrupt metrics file removed", file=path.name)
        self._drop("gauge_live*")
        for kind, size in FILE_SIZES.items():
            _allocate(directory / f"{kind}_{worker}.db", size)
        self._value_class: Any = values.MultiProcessValue(lambda: worker)  # type: ignore[no-untyped-call]

    @contextmanager
    def making(self) -> Iterator[None]:
        """Let what the library makes inside the block keep its values here."""
        with _library_storing(self._value_class, self._directory):
            yield

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all processes, living and dead; of dead ones no gauge that is true no more."""
        while True:
            with suppress(FileNotFoundError):  # a process ends, and takes a file along
                merged: Iterable[Metric] = MultiProcessCollector.merge(self._readable())  # type: ignore[no-untyped-call]
                return merged

    def close(self) -> None:
        """Take back what is true of a living process alone."""
        self._drop("gauge_*")

    def _readable(self) -> list[str]:
        """Return the files that are sound, and true now."""
        alive: dict[str, bool] = {}
        files = []
        for path in sorted(self._directory.glob("*.db")):
            kind, _, worker = path.stem.rpartition("_")
            if kind.startswith("gauge_live") and not alive.setdefault(worker, self._is_alive(worker)):
                continue
            if is_sound(path):
                files.append(str(path))
            elif path.exists():
                log.warning("corrupt metrics file ignored", file=path.name)
        return files

    def _own(self, kind: str) -> list[Path]:
        return list(self._directory.glob(f"{kind}_{self.worker}.db"))

    def _drop(self, kind: str) -> None:
        for path in self._own(kind):
            path.unlink(missing_ok=True)

    def _is_alive(self, worker: str) -> bool:
        """Tell whether a living process has the name."""
        return is_locked(self._directory / f"{worker}.lock")


@contextmanager
def _library_storing(value_class: Any, directory: Path | None = None) -> Iterator[None]:
    """Let the library use this class for its values, and this directory for its files, in the block."""
    with _library:
        class_before, directory_before = values.ValueClass, os.environ.pop(DIRECTORY_VARIABLE, None)
        values.ValueClass = value_class
        if directory is not None:
            os.environ[DIRECTORY_VARIABLE] = str(directory)
        try:
            yield
        finally:
            values.ValueClass = class_before
            os.environ.pop(DIRECTORY_VARIABLE, None)
            if directory_before is not None:
                os.environ[DIRECTORY_VARIABLE] = directory_before


def _make_private(directory: Path) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        directory.mkdir(mode=0o700)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
        raise StorageError(
            f"SEALPOST_METRICS_DIR: {directory} must be a directory that you own, with mode 0700. Remove it, or"
            " choose a path that does not exist yet."
        )


def _hold(directory: Path, worker: str) -> int:
    """Take a name for this process alone; the kernel frees it when the process is gone."""
    began = time.monotonic()
    told = False
    while True:
        try:
            return take_lock(directory / f"{worker}.lock")
        except BlockingIOError:
            # A reader looks whether it is held for a moment as well.
            if not told and time.monotonic() - began > NOTICEABLE:
                log.warning("waiting for another process with the same worker name to exit", worker=worker)
                told = True
            if time.monotonic() - began > PATIENCE:
                raise StorageError(
                    f"Another process uses the worker name {worker} in {directory}. Give each process a socket with a"
                    " different name, or its own SEALPOST_METRICS_DIR."
                ) from None
            time.sleep(PAUSE)


def _allocate(path: Path, size: int) -> None:
    """Make a file of mode 0600 where there is none, with all of its blocks.

    On a full disk, a process that writes into a hole of a mapped file is killed.
    """
    if path.exists():
        return
    with replacing(path) as file:
        if sys.platform == "darwin":
            file.truncate(size)
        else:
            os.posix_fallocate(file.fileno(), 0, size)


_HEADER = struct.Struct("i4x")
_LENGTH = struct.Struct("i")
_VALUE = struct.Struct("dd")
_ALIGNMENT = 8


# A file begins with the number of its bytes in use, in 4 bytes, and 4 more. Each entry is the length of its key, in
# 4 bytes, the key as JSON, padded so that the rest is aligned to 8 bytes, and two doubles: the value and a time.


class _Damaged(Exception):
    """A file does not hold what prometheus-client writes."""


def is_sound(path: Path) -> bool:
    """Tell whether all that is in use of a file can be read, and each value is a count.

    prometheus-client believes what it reads, and a crash of the host may damage a file.
    """
    may_fall = path.name.startswith("gauge")
    try:
        for key, value in _entries(_used_part(path)):
            if not (_is_key(key) and math.isfinite(value) and (value >= 0 or may_fall)):
                return False
    except (OSError, struct.error, _Damaged):
        return False
    return True


def _used_part(path: Path) -> bytes:
    with path.open("rb") as file:
        (used,) = _HEADER.unpack(file.read(_HEADER.size))
        if used == 0:
            return b""  # it has just been made
        wanted = used - _HEADER.size
        if wanted < 0 or len(data := file.read(wanted)) != wanted:
            raise _Damaged
    return data


def _entries(data: bytes) -> Iterator[tuple[bytes, float]]:
    position = 0
    while position < len(data):
        (length,) = _LENGTH.unpack_from(data, position)
        if length <= 0:
            raise _Damaged
        start = position + _LENGTH.size
        position = start + length + _ALIGNMENT - (length + _LENGTH.size) % _ALIGNMENT
        value, _ = _VALUE.unpack_from(data, position)
        position += _VALUE.size
        yield data[start : start + length], value


@lru_cache(maxsize=10_000)
def _is_key(encoded: bytes) -> bool:
    """Tell whether this is the JSON of a metric's name, a sample's name, labels and a help text."""
    try:
        metric, sample, labels, meaning = json.loads(encoded)
        float(labels.get("le", 0))
        return all(isinstance(text, str) for text in (metric, sample, meaning, *labels.values()))
    except (ValueError, TypeError, AttributeError, RecursionError):
        return False
