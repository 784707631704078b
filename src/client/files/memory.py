"""What an interrupted transfer needs to be continued, in files that only their owner can read."""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Self

from ..environment import state_directory

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

KEPT_SECONDS = 2 * 86400.0
"""After this time without a change, uploads and held openings have expired on the server."""


class InUse(Exception):
    """Another process uses the memory of the same transfer."""


class Memory:
    """A JSON object that survives the process, for one transfer; a context manager. The process holds a lock on it."""

    def __init__(self, kind: str, *identity: str) -> None:
        """Raises `InUse`, and `OSError` if the directory is not usable."""
        self._path = _path_of(kind, identity)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _discard_old(self._path.parent)
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        if HAS_LOCKS:
            try:
                flock(self._handle, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                os.close(self._handle)
                raise InUse from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        is_empty = not os.fstat(self._handle).st_size
        # Windows deletes no open file.
        os.close(self._handle)
        if is_empty:
            with suppress(OSError):
                self._path.unlink()

    def read(self) -> dict[str, Any]:
        """Return the object; empty if there is none."""
        os.lseek(self._handle, 0, os.SEEK_SET)
        raw = os.read(self._handle, os.fstat(self._handle).st_size)
        try:
            # If the process died while writing, the end of an older object follows.
            content, _ = json.JSONDecoder().raw_decode(raw.decode())
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the object. Raises `OSError`."""
        raw = json.dumps(content).encode()
        os.lseek(self._handle, 0, os.SEEK_SET)
        os.write(self._handle, raw)
        os.truncate(self._handle, len(raw))

    def forget(self) -> None:
        """Delete the object; its file is deleted with the end of the block."""
        os.truncate(self._handle, 0)


def has_memory(kind: str, *identity: str) -> bool:
    """Return whether an earlier run has left something."""
    return _path_of(kind, identity).exists()


def _path_of(kind: str, identity: tuple[str, ...]) -> Path:
    return state_directory() / kind / f"{sha256(json.dumps(identity).encode()).hexdigest()[:32]}.json"


def _discard_old(directory: Path) -> None:
    for path in directory.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < time.time() - KEPT_SECONDS:
                path.unlink()
