"""Logs: rotated JSON lines that contain nothing a client sent."""

import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, cast

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict

from ..settings import Settings
from .files import rotate


class LogFile:
    """An append-only file of mode 0600 that is rotated by size: ``app.jsonl``, ``app.jsonl.1``, … the oldest dropped.

    One process writes one file. What is written at once goes into one file with one system call, so killing the process
    tears no line.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._lock = threading.Lock()
        self._open()

    def write(self, lines: bytes) -> int:
        """Append the lines, rotating first when they would make the file too large."""
        with self._lock:
            if self._size and self._size + len(lines) > self._max_bytes:
                self._rotate()
            written = os.write(self._descriptor, lines)
            self._size += written
        return written

    def flush(self) -> None:
        """Do nothing: lines are not buffered."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _open(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._size = os.fstat(self._descriptor).st_size

    def _rotate(self) -> None:
        os.close(self._descriptor)
        rotate(self._path, self._backups)
        self._open()


class AnsweredRequest(NamedTuple):
    """A request that has been answered: its id, method, route, status, and duration in seconds."""

    request_id: str
    method: str
    route: str
    status: int
    seconds: float


LogRequests = Callable[[Sequence[AnsweredRequest]], None]
"""Logs a line for each request."""


class _RequestLines:
    """Writes the lines of requests to a file without structlog: most lines of a log are these.

    If the file cannot be written, for instance because the disk is full, the lines are lost, and requests are still
    served.
    """

    def __init__(self, file: BinaryIO | LogFile) -> None:
        self._file = file

    def write(self, requests: Sequence[AnsweredRequest]) -> None:
        """Write a line for each request."""
        written = f"{datetime.now(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"
        lines = "".join(
            f'{{"time":"{written}","level":"info","event":"request","request_id":"{request_id}","method":"{method}",'
            f'"route":{_quoted(route)},"status":{status},"duration_ms":{seconds * 1000:.2f}}}\n'
            for request_id, method, route, status, seconds in requests
        )
        with suppress(OSError):
            self._file.write(lines.encode())
            self._file.flush()


class _Output(structlog.BytesLoggerFactory):
    """The loggers of structlog and the lines of requests, which go to the same file."""

    def __init__(self, file: BinaryIO | LogFile, level: int) -> None:
        super().__init__(file=cast("BinaryIO", file))  # it only needs to write and flush
        self.log_requests: LogRequests = _RequestLines(file).write if level <= logging.INFO else _log_nothing


def request_log() -> LogRequests:
    """Return the log of requests as configured."""
    output = structlog.get_config()["logger_factory"]
    return output.log_requests if isinstance(output, _Output) else _log_by_structlog


def _log_nothing(_: Sequence[AnsweredRequest]) -> None:
    """Log nothing."""


def _log_by_structlog(requests: Sequence[AnsweredRequest]) -> None:
    log = structlog.get_logger(__name__)
    for request_id, method, route, status, seconds in requests:
        duration = round(seconds * 1000, 2)
        log.info("request", request_id=request_id, method=method, route=route, status=status, duration_ms=duration)


@lru_cache
def _quoted(route: str) -> str:
    return json.dumps(route)


class LibraryMessages(logging.Handler):
    """Logs messages of libraries by template and exception type, without the values filled in."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "library message", logger=record.name, template=str(record.msg), error=error)


def _render(_: object, level: str, event: EventDict) -> bytes:
    """Return the line, with time, level and event first."""
    return to_json({"time": datetime.now(UTC), "level": level, "event": event.pop("event"), **event}, fallback=str)


def configure_logs(settings: Settings, output: TextIO | None = None) -> None:
    """Send all log lines, including those of libraries, to ``output``, or else to the configured file or stdout."""
    stream: BinaryIO | LogFile = (output or sys.stdout).buffer
    if settings.log_file and output is None:
        stream = LogFile(settings.log_file, max_bytes=settings.log_max_bytes, backups=settings.log_backups)
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    structlog.configure(
        processors=[_render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Output(stream, level),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[LibraryMessages()], force=True)
    # aiohttp enables it in debug mode, and a path may contain a key.
    logging.getLogger("aiohttp.access").disabled = True
