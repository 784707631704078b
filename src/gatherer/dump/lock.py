"""The lock of the dump: one process of a host writes it. The kernel releases the lock when that process ends.

The lock file also tells the other processes of the host about the writer's failure. It has its full size from the
start, so that this needs no space on a full disk.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ...core.files import release_lock, take_lock

SIZE = 512


class DumpFailure(BaseModel):
    """Why the dump cannot be written, and since when."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    since: datetime
    reason: str


class DumpLock:
    """The lock file at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Take the lock if it is free, and return whether this process holds it. Raises `OSError`."""
        if self._descriptor is not None and self._is_the_file():
            return True
        self.release()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._descriptor = take_lock(self._path)
        except BlockingIOError:
            return False
        if not self._is_the_file():
            # The file was deleted after it was opened here; another process may have created and locked a new one.
            self.release()
            return False
        self.publish(None)
        return True

    def release(self) -> None:
        """Release the lock."""
        if self._descriptor is not None:
            release_lock(self._descriptor)
            self._descriptor = None

    def publish(self, failure: DumpFailure | None) -> None:
        """Tell other processes about a failure, or its end; errors of this write are ignored."""
        text = failure.model_dump_json() if failure else ""
        with suppress(OSError):
            if self._descriptor is not None:
                os.pwrite(self._descriptor, text.encode().ljust(SIZE), 0)

    def published(self) -> DumpFailure | None:
        """Return the failure that the holder of the lock has published."""
        with suppress(OSError, ValidationError):
            return DumpFailure.model_validate_json(self._path.read_bytes().rstrip())
        return None

    def _is_the_file(self) -> bool:
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except FileNotFoundError:
            return False
