"""Docker health check of the workers' container: ``python -m src.stack.healthcheck``.

Imports the standard library only, because it runs every few seconds.
"""

import os
import sys
from pathlib import Path

from ..core.workers import UnixConnection, is_ready


def main() -> int:
    """Return 0 if one of the workers under ``RUN_DIR`` is ready, else 1."""
    sockets = sorted(Path(os.environ["RUN_DIR"]).glob("worker-*.sock"))
    return 0 if any(is_ready(UnixConnection(path)) for path in sockets) else 1


if __name__ == "__main__":
    sys.exit(main())
