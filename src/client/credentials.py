"""What the client keeps between commands: one session for each server, in a file that only its user can read."""

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
"""How long a command waits for others that hold the lock; each holds it for one refresh."""
LOCK_INTERVAL = 0.05
OTHERS_MAY_READ = stat.S_IRWXG | stat.S_IRWXO
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


@dataclass(frozen=True)
class StoredSession:
    """One sign-in. ``access_until`` is when the access token is to be refreshed, in seconds since 1970.

    ``allow_http`` is remembered from the sign-in, which would not have been possible without it.
    """

    username: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    access_until: float
    allow_http: bool = False

    @property
    def is_fresh(self) -> bool:
        """Whether the access token is still good by this machine's clock."""
        return time.time() < self.access_until


@dataclass(frozen=True)
class StoredSessions:
    """All that is kept: the sessions by the server's URL, and the server that was signed in to last."""

    default_url: str | None = None
    sessions: Mapping[str, StoredSession] = field(default_factory=dict)

    def with_session(self, url: str, session: StoredSession) -> "StoredSessions":
        """Return these with a session put in the place of the server's old one."""
        return replace(self, sessions={**self.sessions, url: session})

    def without_session(self, url: str) -> "StoredSessions":
        """Return these without the session of a server."""
        return replace(self, sessions={one: session for one, session in self.sessions.items() if one != url})


class CredentialStore:
    """The file. Reading takes no lock, because a change replaces the whole file; changing takes it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.path = directory / FILE

    def read(self) -> StoredSessions:
        """Return what is kept. Raises `ClientError` for a file that others can read, or that is damaged."""
        try:
            with self.path.open("rb") as file:
                self._check(file.fileno())
                raw = file.read()
        except FileNotFoundError:
            return StoredSessions()
        except OSError as error:
            raise ClientError(f"{self.path} cannot be read: {error.strerror}") from None
        try:
            return _parse(json.loads(raw))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ClientError(f"{self.path} is damaged. Delete it, and sign in again") from None

    def write(self, credentials: StoredSessions) -> None:
        """Replace what is kept, at once or not at all, for whoever holds the lock. Raises `ClientError`."""
        content = {
            "version": VERSION,
            "default_url": credentials.default_url,
            "sessions": {url: asdict(session) for url, session in credentials.sessions.items()},
        }
        try:
            # It is made with mode 0600.
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
            raise ClientError(f"{self.path} cannot be written: {error.strerror}") from None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Keep other commands from changing the file. Raises `ClientError`.

        The kernel releases the lock of a process that dies.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self._directory / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise ClientError(f"{self._directory} cannot be used: {error.strerror}") from None
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while not _try_lock(handle):
                if time.monotonic() > deadline:
                    raise ClientError(f"another command has held {self._directory / LOCK} for too long")
                await asyncio.sleep(LOCK_INTERVAL)
            yield
        finally:
            os.close(handle)

    def _check(self, handle: int) -> None:
        """Raise `ClientError` where somebody else could have read the file, or could put another in its place.

        Without POSIX users and modes, the directory in the user's profile has to protect it.
        """
        if not hasattr(os, "geteuid"):
            return
        found, directory = os.fstat(handle), self._directory.stat()
        if found.st_mode & OTHERS_MAY_READ:
            raise ClientError(f"{self.path} can be read by others: chmod 600 {self.path}, and sign in again")
        if directory.st_mode & OTHERS_MAY_WRITE:
            raise ClientError(f"{self._directory} can be changed by others: chmod 700 {self._directory}")
        if found.st_uid != os.geteuid():
            raise ClientError(f"{self.path} belongs to somebody else")


def _try_lock(handle: int) -> bool:
    """Tell whether the lock is ours; without file locks, as on Windows, commands must not run at once."""
    if not HAS_LOCKS:
        return True
    try:
        flock(handle, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parse(content: Any) -> StoredSessions:
    """Raise what a wrong type, name or number of members brings about."""
    if content["version"] != VERSION:
        raise ValueError
    sessions = {url: StoredSession(**session) for url, session in content["sessions"].items()}
    for session in sessions.values():
        texts = (session.username, session.access_token, session.refresh_token)
        if not all(isinstance(text, str) for text in texts) or not isinstance(session.access_until, int | float):
            raise TypeError
    return StoredSessions(content["default_url"], sessions)
