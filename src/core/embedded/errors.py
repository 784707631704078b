"""What can go wrong with the embedded MongoDB, in words for the person who started it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class MongodError(Exception):
    """The embedded MongoDB cannot be used; the message says why and what to do, and holds no secret."""


@contextmanager
def in_plain_words(home: Path) -> Iterator[None]:
    """Turn what the operating system refuses under the directory into a `MongodError`."""
    try:
        yield
    except OSError as error:
        advice = "Set SEALPOST_DATA_DIR to a directory on a local disk that this user may write to."
        raise MongodError(f"{error.filename or home} cannot be used ({error.strerror}). {advice}") from error
