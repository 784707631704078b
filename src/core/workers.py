"""The unix sockets on which the workers of a stack listen, and whether a worker is ready.

Standard library only: a health check imports this.
"""

import hashlib
import http.client
import os
import socket
import tempfile
from pathlib import Path

WORKERS = 4
SOCKET_PATH_MAX = 107  # bytes: sun_path in unix(7), without its final NUL
_LONGEST_SOCKET_NAME = "supervisor.sock.4194304"  # supervisord binds under a name with its process id, then renames


def locate_run_directory(data_dir: Path) -> Path:
    """Return the directory for the sockets of a stack on this data directory; it may not exist yet.

    It is under the data directory, or under the system's temporary directory if a socket's path would be too long.
    """
    data_dir = data_dir.resolve()
    path = data_dir / "run"
    if not fits_a_socket(path):
        digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"sealpost-{os.geteuid()}-{digest}"
    return path


def fits_a_socket(run_dir: Path) -> bool:
    """Tell whether all socket paths in a directory are short enough for the kernel."""
    return len(os.fsencode(run_dir / _LONGEST_SOCKET_NAME)) <= SOCKET_PATH_MAX


def worker_sockets(run_dir: Path) -> list[Path]:
    """Return the paths of the workers' sockets, by worker number."""
    return [run_dir / f"worker-{number}.sock" for number in range(1, WORKERS + 1)]


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
    """Ask the server on a new connection whether it is ready, and close the connection."""
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
