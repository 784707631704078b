"""Errors of the embedded MongoDB, in words for the operator."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...files import locked

GATE_SECONDS = 180
_ADVICE = "Set SEALPOST_DATA_DIR to a directory on a local disk that this user may write to."
_FULL = "Delete other files on that disk, or enlarge it."


class MongodError(Exception):
    """The embedded MongoDB cannot be used; the message says why and what to do, and contains no secret."""


@contextmanager
def in_plain_words(home: Path) -> Iterator[None]:
    """Translate operating system errors about files in the directory to `MongodError`."""
    try:
        yield
    except OSError as error:
        advice = _FULL if error.errno in {errno.ENOSPC, errno.EDQUOT} else _ADVICE
        raise MongodError(f"{error.filename or home} cannot be used ({error.strerror}). {advice}") from error


@contextmanager
def hold_gate(path: Path) -> Iterator[None]:
    """Hold the gate, an exclusive lock. Raises `MongodError` if it is not acquired within 3 minutes."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(path, patience=GATE_SECONDS))
        except BlockingIOError:
            raise MongodError(
                f"Another process has held {path} for {GATE_SECONDS} s. Stop it, then try again."
            ) from None
        yield
