"""The settings of a running process, published beside its socket for ``doctor``; of secrets, only fingerprints.

A running process holds a lock on its file. A file that is not locked belongs to a process that was killed.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..settings import SECRETS, Settings
from .crypto.keys import KeyRing, Purpose
from .files import is_locked, release_lock, take_lock, write_all

LAUNCHER = "stack"
"""Name under which the launcher publishes its settings."""
_SUFFIX = ".settings"


@dataclass(frozen=True)
class RunningSettings:
    """The settings of a running process.

    ``values`` holds the settings that are not secret (`plain_values`). ``fingerprints`` holds a MAC of each secret that
    is set, under the newest key of the ring; ``key_ids`` lists the keys. ``directory`` is the working directory, and
    ``log_dir`` the directory of a stack's logs.
    """

    values: Mapping[str, Any]
    fingerprints: Mapping[str, str]
    key_ids: list[str]
    directory: str
    log_dir: str | None = None

    @classmethod
    def of(cls, settings: Settings, ring: KeyRing, log_dir: Path | None = None) -> "RunningSettings":
        """Describe this process."""
        return cls(
            plain_values(settings),
            {
                name: ring.mac(Purpose.SETTINGS, _message(name, secret)).hex()
                for name, secret in _secrets(settings).items()
            },
            list(ring.key_ids),
            os.getcwd(),  # noqa: PTH109 (a string is wanted)
            str(log_dir) if log_dir else None,
        )

    def agrees_on(self, name: str, settings: Settings, ring: KeyRing) -> bool:
        """Tell whether a secret is set on both sides to the same value."""
        secret = _secrets(settings).get(name)
        made = self.fingerprints.get(name, "")
        return secret is not None and ring.has_made(bytes.fromhex(made), Purpose.SETTINGS, _message(name, secret))


def plain_values(settings: Settings) -> dict[str, Any]:
    """Return the settings that are not secret as JSON values; paths that were set become absolute."""
    values = settings.model_dump(mode="json", exclude=set(SECRETS))
    for name in values.keys() & settings.model_fields_set:
        if isinstance(path := getattr(settings, name), Path):
            values[name] = str(path if str(path) == "off" else path.absolute())
    return values


@contextmanager
def publish(directory: Path, name: str, running: RunningSettings) -> Iterator[None]:
    """Publish the settings of this process in a directory until the block ends, if the directory is writable."""
    path = directory / f"{name}{_SUFFIX}"
    try:
        lock = take_lock(path)
    except OSError:  # another process of this name lives, or the directory cannot be written to
        yield
        return
    try:
        with suppress(OSError):  # the disk is full
            os.truncate(lock, 0)
            write_all(lock, json.dumps(asdict(running)).encode())
        yield
    finally:
        path.unlink(missing_ok=True)
        release_lock(lock)


def find(directory: Path) -> dict[str, RunningSettings]:
    """Return the published settings of running processes, by their names. Raises `OSError`."""
    found = {}
    for path in sorted(directory.glob(f"*{_SUFFIX}")):
        with suppress(FileNotFoundError, ValueError, TypeError):
            if is_locked(path):
                found[path.stem] = RunningSettings(**json.loads(path.read_bytes()))
    return found


def _secrets(settings: Settings) -> dict[str, str]:
    return {name: value.get_secret_value() for name in SECRETS if (value := getattr(settings, name)) is not None}


def _message(name: str, secret: str) -> bytes:
    return f"{name}={secret}".encode()
