"""Whether a worker in this container can work, for Docker: ``python -m src.stack.healthcheck``.

The standard library is all that is imported: this runs every few seconds.
"""

import http.client
import os
import socket
import sys
from pathlib import Path

_PATIENCE = 2.0  # seconds for each worker; four of them stay under Docker's timeout


class _UnixConnection(http.client.HTTPConnection):
    """A connection to a worker's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def is_ready(connection: http.client.HTTPConnection) -> bool:
    """Ask whoever is at the other end of a fresh connection whether it is ready, and close the connection."""
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main() -> int:
    """Return 0 if one of the workers under ``RUN_DIR`` is ready, else 1."""
    sockets = sorted(Path(os.environ["RUN_DIR"]).glob("worker-*.sock"))
    return 0 if any(is_ready(_UnixConnection(path)) for path in sockets) else 1


if __name__ == "__main__":
    sys.exit(main())
