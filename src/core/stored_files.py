"""The stored files of items, as the features that keep and serve them use them."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from ..errors import Unavailable

TAKING_SECONDS = 50.0
"""Time limit of a request that reserves files and takes them: less than the 60 seconds of a reservation.

The content of the files gets a new expiry, for which MongoDB rewrites it: seconds for each GiB.
"""
RESERVATION = timedelta(seconds=60)
"""Time for which an upload is reserved for an item that is being created."""

PAYER = "payer"
"""The blind index by which an upload names the account whose byte budget pays for its content."""
Unusable = Literal["unknown or expired", "incomplete", "in use"]


@dataclass(frozen=True)
class StoredFile:
    """The part of a file that an item keeps in the clear: the 16-byte id of its upload, and its size in bytes."""

    upload_id: bytes
    size: int


class TransferSlots:
    """The transfers of one kind, such as uploads, that a process has at once: each needs memory."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._active = 0

    @contextmanager
    def take(self, most: int) -> Iterator[None]:
        """Occupy one of ``most`` slots during the block. Raises `Unavailable` if none is free."""
        if self._active >= most:
            raise Unavailable(f"Too many {self._kind} are in progress. Try again after the delay in Retry-After.")
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1


class UnusableUpload(Exception):
    """An upload cannot become a file of an item; ``position`` is its index among the uploads."""

    def __init__(self, position: int, reason: Unusable) -> None:
        super().__init__(reason)
        self.position = position
        self.reason = reason


class FileStorage(Protocol):
    """Storage of uploaded files. An upload becomes a file of an item with `reserve` and `take`."""

    async def reserve(self, upload_keys: Sequence[bytes], item_id: bytes, delete_at: datetime) -> list[StoredFile]:
        """Reserve complete uploads for an item for 60 seconds, and keep their content until ``delete_at``.

        ``upload_keys`` are different keys of 32 bytes. Raises `UnusableUpload`, and no upload is reserved then; and
        `Unavailable`, after which they may be reserved until the 60 seconds are over.
        """
        ...

    async def take(self, session: Any, item_id: bytes, files: Sequence[StoredFile]) -> None:
        """Make reserved uploads the item's files, in the caller's transaction: no other item can use them.

        Raises `Unavailable` if one is not reserved for the item any more.
        """
        ...

    async def release(self, item_id: bytes, files: Sequence[StoredFile]) -> None:
        """End the reservations of an item that was not stored; changes nothing if it was. Raises `Unavailable`."""
        ...

    def read(self, upload_key: bytes, file: StoredFile, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from ``start`` up to ``stop``, at most 1 MiB at a time; each part is authenticated first.

        Raises `Damaged` for a modified or missing part, also if the file is gone, and `Unavailable`.
        """
        ...

    async def erase(self, files: Sequence[StoredFile]) -> None:
        """Delete the content of files, acknowledged by a majority. Raises `Unavailable`."""
        ...
