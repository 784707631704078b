"""Small files for the owner's eyes only, each either whole or treated as absent."""

import os
import re
from pathlib import Path
from typing import BinaryIO, cast

_SECRET = re.compile(r"[0-9a-f]{64}")
_NUMBER = re.compile(r"[0-9]{1,9}")


def open_private(path: Path, mode: str = "ab") -> BinaryIO:
    """Open a file in a binary mode, making it with mode 0600 where it is absent."""
    return cast("BinaryIO", open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600)))


def write_private(path: Path, text: str) -> None:
    """Write a file that a crash leaves either as it was or whole."""
    draft = path.with_suffix(".new")
    with open_private(draft, "wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def sync_directory(path: Path) -> None:
    """Have the names in a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(path: Path) -> str | None:
    """Return the 64 hexadecimal digits in a file, or None where it is absent or damaged."""
    text = _read(path)
    return text if _SECRET.fullmatch(text) else None


def read_number(path: Path) -> int | None:
    """Return the number in a file, or None where it is absent or damaged."""
    text = _read(path).strip()
    return int(text) if _NUMBER.fullmatch(text) else None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii", errors="replace")
    except FileNotFoundError:
        return ""
