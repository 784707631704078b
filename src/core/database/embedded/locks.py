"""Locks between processes: files under flock, which the kernel lets go of however a process ends."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ...private_files import open_private
from .errors import MongodError

WAIT_SECONDS = 180
_POLL_SECONDS = 0.02


@contextmanager
def turn(path: Path) -> Iterator[None]:
    """Hold a lock that one process or thread has at a time; raise `MongodError` if it is not had in three minutes."""
    with open_private(path) as file:
        deadline = time.monotonic() + WAIT_SECONDS
        while not _take(file):
            if time.monotonic() > deadline:
                raise MongodError(f"Another process has held {path} for {WAIT_SECONDS} s. End it, then try again.")
            time.sleep(_POLL_SECONDS)
        try:
            yield
        finally:
            fcntl.flock(file, fcntl.LOCK_UN)


def is_held(path: Path) -> bool:
    """Tell whether anyone holds or shares a lock."""
    with open_private(path) as file:
        return not _take(file)


def share(path: Path) -> BinaryIO:
    """Take a share of a lock that nobody holds alone; keep the file open and `release` it."""
    file = open_private(path)
    fcntl.flock(file, fcntl.LOCK_SH)
    return file


def take(path: Path) -> BinaryIO:
    """Take a lock that nobody holds, for a child that inherits the file to hold until it ends."""
    file = open_private(path)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def release(file: BinaryIO) -> None:
    """Give a lock or a share back, also where a process forked meanwhile still has the file open."""
    fcntl.flock(file, fcntl.LOCK_UN)
    file.close()


def _take(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
