"""Stored sessions, one for each server, in a file that only its owner can read."""

import asyncio
import json
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from .errors import ClientError

try:
    from fcntl import LOCK_EX, LOCK_NB, flock
except ImportError:
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

FILE, LOCK = "credentials.json", "credentials.lock"
VERSION = 1
LOCK_SECONDS = 120.0
"""Longest wait for the lock; another command holds it for one refresh."""
LOCK_INTERVAL = 0.05
OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class StoredSession:
    """A session. From ``access_until``, a Unix time, the access token has to be refreshed.

    Without a refresh token, it is an API token, whose user is unknown. ``allow_http`` is the option that the user gave
    to sign in.
    """

    username: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_until: float
    allow_http: bool = False

    @classmethod
    def of_api_token(cls, token: str, *, allow_http: bool) -> "StoredSession":
        """Return what is stored for an API token."""
        return cls(username="", access_token=token, refresh_token="", access_until=0, allow_http=allow_http)

    @property
    def is_api_token(self) -> bool:
        """Whether it is an API token, which is never refreshed."""
        return not self.refresh_token

    @property
    def is_fresh(self) -> bool:
        """Whether the token is valid by the local clock."""
        return self.is_api_token or time.time() < self.access_until


@dataclass(frozen=True)
class StoredSessions:
    """The sessions by server URL, and the server of the last sign-in."""

    default_url: str | None = None
    sessions: Mapping[str, StoredSession] = field(default_factory=dict)

    def with_session(self, url: str, session: StoredSession) -> "StoredSessions":
        """Return a copy with the session of a server replaced."""
        return replace(self, sessions={**self.sessions, url: session})

    def without_session(self, url: str) -> "StoredSessions":
        """Return a copy without the session of a server."""
        return replace(self, sessions={key: session for key, session in self.sessions.items() if key != url})


class CredentialStore:
    """The file. Writers hold a lock; readers need none, because each write replaces the whole file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / FILE

    def read(self) -> StoredSessions:
        """Return the stored sessions. Raises `ClientError` if the file is damaged or others can read it."""
        try:
            with self.path.open("rb") as file:
                self._check(file.fileno())
                raw = file.read()
        except FileNotFoundError:
            return StoredSessions()
        except OSError as error:
            raise ClientError(f"cannot read {self.path}: {error.strerror}") from None
        try:
            return _parse(json.loads(raw))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ClientError(f"{self.path} is damaged. Delete it and sign in again") from None

    def write(self, credentials: StoredSessions) -> None:
        """Replace the file atomically; the caller holds the lock. Raises `ClientError`."""
        content = {
            "version": VERSION,
            "default_url": credentials.default_url,
            "sessions": {url: asdict(session) for url, session in credentials.sessions.items()},
        }
        try:
            # Its mode is 0600.
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=FILE + ".")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(content, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self.path)
            except BaseException:
                with suppress(OSError):
                    Path(name).unlink()
                raise
        except OSError as error:
            raise ClientError(f"cannot write {self.path}: {error.strerror}") from None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the lock. Raises `ClientError`.

        The kernel releases the lock of a process that dies.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ClientError(f"cannot use {self._directory}: {error.strerror}") from None
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(handle):
                if time.monotonic() > deadline:
                    raise ClientError(
                        f"another command has held {self._directory / LOCK} for more than {LOCK_SECONDS:g} s"
                    )
                await asyncio.sleep(LOCK_INTERVAL)
            yield
        finally:
            os.close(handle)

    def _check(self, handle: int) -> None:
        """Raise `ClientError` if another user can read or replace the file.

        Without POSIX users and modes, the user's profile directory has to protect it.
        """
        if not hasattr(os, "geteuid"):
            return
        found, directory = os.fstat(handle), self._directory.stat()
        if found.st_mode & OTHERS_MAY_READ:
            raise ClientError(f"other users can read {self.path}: chmod 600 {self.path}, and sign in again")
        if directory.st_mode & OTHERS_MAY_WRITE:
            raise ClientError(f"other users can write to {self._directory}: chmod 700 {self._directory}")
        if found.st_uid != os.geteuid():
            raise ClientError(f"{self.path} belongs to another user")


def _try_lock(handle: int) -> bool:
    """Return whether the lock was acquired; always True without file locks, as on Windows."""
    if not HAS_LOCKS:
        return True
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse(content: Any) -> StoredSessions:
    """Raise `ValueError`, `TypeError`, `KeyError` or `AttributeError` for unexpected content."""
    if content["version"] != VERSION:
        raise ValueError
    sessions = {url: StoredSession(**session) for url, session in content["sessions"].items()}
    for session in sessions.values():
        texts = (session.username, session.access_token, session.refresh_token)
        if not all(isinstance(text, str) for text in texts) or not isinstance(session.access_until, int | float):
            raise TypeError
    return StoredSessions(content["default_url"], sessions)
