"""The lock of the dump: one process of a host writes, and the kernel lets the next one in however that one ends.

The file of the lock also tells the others of the host what the writer's failure is. It has its full size from the
beginning, so that this takes no room on a disk that is full.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from ...core.files import release_lock, take_lock

SIZE = 512


class DumpFailure(BaseModel):
    """Why the dump is behind, and since when."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    since: datetime
    reason: str


class DumpLock:
    """The lock file at a path."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> bool:
        """Tell whether this process has the lock, which it takes where nobody has it. Raises `OSError`."""
        if self._descriptor is not None and self._is_the_file():
            return True
        self.release()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._descriptor = take_lock(self._path)
        except BlockingIOError:
            return False
        if not self._is_the_file():
            # Removed while this process opened it; somebody else may have made and locked another one.
            self.release()
            return False
        self.publish(None)
        return True

    def release(self) -> None:
        """Let others have the lock."""
        if self._descriptor is not None:
            release_lock(self._descriptor)
            self._descriptor = None

    def publish(self, failure: DumpFailure | None) -> None:
        """Tell the others of a failure, or that there is none, as far as that can be written."""
        text = failure.model_dump_json() if failure else ""
        with suppress(OSError):
            if self._descriptor is not None:
                os.pwrite(self._descriptor, text.encode().ljust(SIZE), 0)

    def published(self) -> DumpFailure | None:
        """Return the failure that whoever has the lock has told of."""
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
