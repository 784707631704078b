"""Whether a worker is ready, asked over its unix socket. Standard library only: a health check imports this."""

import http.client
import socket
from pathlib import Path

_TIMEOUT = 2.0  # seconds for each worker; four of them stay under Docker's timeout


class UnixConnection(http.client.HTTPConnection):
    """An HTTP connection to a unix socket."""

    def __init__(self, path: Path, timeout: float = _TIMEOUT) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket. Raises `OSError`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def is_ready(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the server at the other end of a fresh connection is ready, and close the connection."""
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
