"""The embedded MongoDB: a mongod as a replica set of 1 member under the data directory, shared by local processes.

Three lock files coordinate the processes; the kernel releases them however a process ends:

- ``gate.lock``: held to start, join, leave or stop mongod, so that these happen one at a time;
- ``users.lock``: shared by all processes that use mongod; if it is free, the last user has left;
- ``alive.lock``: inherited by mongod, and so held exactly as long as mongod runs, whichever process started it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...files import release_lock, take_lock
from .errors import MongodError, hold_gate, in_plain_words
from .server import Server, find_mongod
from .watchdog import Watchdog

__all__ = ["MongodError", "embedded_mongod", "find_mongod", "find_running"]


@contextmanager
def embedded_mongod(data_dir: Path, configured: Path | None = None) -> Iterator[str]:
    """Yield the URL of a MongoDB under the data directory that accepts writes, and stop it after its last user.

    A mongod that already runs there is joined. If it ends early, it is restarted under the same URL. The context may be
    entered and left in different threads. Raises `MongodError` if mongod cannot be started, joined or stopped.
    """
    server = Server(data_dir.resolve() / "mongo", configured)
    with in_plain_words(server.home):
        server.prepare()
        with hold_gate(server.gate):
            url = server.ensure()
            users = take_lock(server.users, shared=True)
    watchdog = Watchdog(server)
    watchdog.start()
    try:
        yield url
    finally:
        watchdog.stop()
        release_lock(users)
        # The first process through the gate after the last release stops mongod, unless another has joined before.
        with in_plain_words(server.home), hold_gate(server.gate):
            if not server.used():
                server.stop()


def find_running(data_dir: Path) -> str | None:
    """Return the URL of the MongoDB that runs under the data directory, or None; without starting or joining it.

    Waits while another process starts or stops it. Raises `MongodError`.
    """
    server = Server(data_dir.resolve() / "mongo", None)
    with in_plain_words(server.home):
        if not server.gate.exists():
            return None
        with hold_gate(server.gate):
            return server.address()
