"""The journal of the dump file: where its last complete line ends, and which write is pending.

The journal is written and synced before the bytes that it announces. So after a crash at any time, the next writer can
tell a complete write from a torn one.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...core.files import sync_directory, write_all

Count = Annotated[int, Field(ge=0)]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


class Checkpoint(BaseModel):
    """A bundle and all bundles before it: its position, and its time in milliseconds since 1970."""

    model_config = ConfigDict(frozen=True, strict=True)

    position: Count
    arrived_at: Count


BEGINNING = Checkpoint(position=0, arrived_at=0)


class PendingWrite(BaseModel):
    """A write that has started: it ends at the offset ``end`` and has the lines of the bundles up to ``mark``."""

    model_config = ConfigDict(frozen=True, strict=True)

    end: Count
    mark: Checkpoint
    digest: Hex


class JournalRecord(BaseModel):
    """The file has complete lines up to ``offset``, with all bundles of the epoch up to ``mark``."""

    model_config = ConfigDict(frozen=True, strict=True)

    epoch: Hex
    inode: Count
    offset: Count
    mark: Checkpoint
    intended: PendingWrite | None = None


def digest(data: bytes) -> str:
    """Return the SHA-256 of the data in hexadecimal."""
    return sha256(data).hexdigest()


def read_record(path: Path) -> JournalRecord | None:
    """Return the journal; None if it does not exist or cannot be parsed. Raises `OSError`."""
    try:
        return JournalRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_record(path: Path, record: JournalRecord) -> None:
    """Replace the journal atomically, with mode 0600. Raises `OSError`."""
    draft = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(descriptor, record.model_dump_json().encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)  # noqa: PTH105 (tests watch every system call)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_directory(path.parent)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open an existing file for the block."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
