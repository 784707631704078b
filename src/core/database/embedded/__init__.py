"""A private MongoDB: a real mongod as a one-member replica set under the data directory, shared by its processes.

Three lock files keep the order, and the kernel lets go of them however a process ends:

- ``gate.lock``: held to start, join, leave or stop, so that these happen one at a time;
- ``users.lock``: shared by all who use the server; nobody holding it means that the last one has left;
- ``alive.lock``: inherited by mongod itself, so that it is held exactly as long as mongod runs, whoever started it.
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

    A server that runs there already is joined. One that ends meanwhile is started again, under the same URL. Entering
    and leaving may happen in different threads.
    Raises `MongodError` when it cannot be started, joined or stopped.
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
        # The first one through the gate after the last release stops the server, unless a joiner came before.
        with in_plain_words(server.home), hold_gate(server.gate):
            if not server.used():
                server.stop()


def find_running(data_dir: Path) -> str | None:
    """Return the URL of the MongoDB that runs under the data directory, or None; it is neither started nor joined.

    Waits for a process that starts or stops it. Raises `MongodError`.
    """
    server = Server(data_dir.resolve() / "mongo", None)
    with in_plain_words(server.home):
        if not server.gate.exists():
            return None
        with hold_gate(server.gate):
            return server.address()
