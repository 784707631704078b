"""What is known of the dump file apart from the file: where its last whole line ends, and what is being written.

The record is on disk before the bytes that it announces. So after a crash at any moment, whoever goes on can tell the
bytes of an announced write that is whole from those of one that is not.
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
    """A delivery, and with it all before it: its position, and when it arrived, in milliseconds since 1970."""

    model_config = ConfigDict(frozen=True, strict=True)

    position: Count
    arrived_at: Count


BEGINNING = Checkpoint(position=0, arrived_at=0)


class PendingWrite(BaseModel):
    """A write that has begun: the file will end at ``end``, with the lines of the deliveries up to a mark."""

    model_config = ConfigDict(frozen=True, strict=True)

    end: Count
    mark: Checkpoint
    digest: Hex


class JournalRecord(BaseModel):
    """The file of an inode has whole lines up to ``offset``, those of all deliveries of an epoch up to a mark."""

    model_config = ConfigDict(frozen=True, strict=True)

    epoch: Hex
    inode: Count
    offset: Count
    mark: Checkpoint
    intended: PendingWrite | None = None


def digest(data: bytes) -> str:
    """Return the SHA-256 of what is written."""
    return sha256(data).hexdigest()


def read_record(path: Path) -> JournalRecord | None:
    """Return the record in a file; None where there is none that can be read. Raises `OSError`."""
    try:
        return JournalRecord.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def write_record(path: Path, record: JournalRecord) -> None:
    """Write a record of mode 0600 that a crash leaves either as it was or whole. Raises `OSError`."""
    draft = path.with_name(f"{path.name}.new")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(descriptor, record.model_dump_json().encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(draft, path)  # noqa: PTH105 (every step of this is one of the operating system's)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
    sync_directory(path.parent)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """Open a file that is there for the length of a block."""
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
