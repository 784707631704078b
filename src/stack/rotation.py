"""Rotation of the access log by size."""

from contextlib import suppress
from pathlib import Path


def rotate(log: Path, max_bytes: int, backups: int) -> bool:
    """Move a log that has grown to ``max_bytes`` to ``log.1``, and older ones on by one; tell whether it was moved.

    Whoever writes it has to open it anew then. With no backups, the old log is dropped.
    """
    try:
        if log.stat().st_size < max_bytes:
            return False
    except FileNotFoundError:
        return False
    names = [log, *(log.with_name(f"{log.name}.{number}") for number in range(1, backups + 1))]
    names[-1].unlink(missing_ok=True)
    for older, newer in zip(names[:0:-1], names[-2::-1], strict=True):
        with suppress(FileNotFoundError):
            newer.rename(older)
    return True
