"""Logs: rotated JSON lines that contain nothing a client sent."""

import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import structlog
from pydantic_core import to_json
from structlog.typing import EventDict

from ..settings import Settings
from .files import rotate


class LogFile:
    """An append-only file of mode 0600 that is rotated by size: ``app.jsonl``, ``app.jsonl.1``, … the oldest dropped.

    One process writes one file. Each line is written with one system call, so killing the process tears no line.
    """

    def __init__(self, path: Path, *, max_bytes: int, backups: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._open()

    def write(self, line: bytes) -> int:
        """Append the line, rotating first when it would make the file too large."""
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        written = os.write(self._descriptor, line)
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


class LibraryMessages(logging.Handler):
    """Logs messages of libraries by template and exception type, without the values filled in."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        error = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        log = structlog.get_logger(record.name)
        log.log(record.levelno, "library message", logger=record.name, template=str(record.msg), error=error)


def _render(_: object, level: str, event: EventDict) -> bytes:
    """Return the line, with time, level and event first.

    Every request logs a line, so this is a single processor with a fast serializer.
    """
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
        logger_factory=structlog.BytesLoggerFactory(file=cast("BinaryIO", stream)),  # it only needs to write and flush
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[LibraryMessages()], force=True)
    # aiohttp enables it in debug mode, and a path may contain a key.
    logging.getLogger("aiohttp.access").disabled = True
