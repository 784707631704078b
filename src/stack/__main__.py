"""The command line of the stack.

``python -m src.stack [--host H] [--port P] [--tls-port P] [--metrics-port P] [--log-dir DIR]``
"""

import argparse
import sys
from pathlib import Path

from ..core.logs import configure_logs
from ..core.tls.certificates import CertificateError
from ..settings import SettingsError, read_settings
from .launcher import Launcher, Ports, StackError


def main() -> int:
    """Run the stack until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {__package__}", description="Run nginx, four workers and MongoDB."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", default=8080, type=int, help="port to listen on (default 8080)")
    parser.add_argument(
        "--tls-port", default=8443, type=int, help="port for HTTPS, if SEALPOST_TLS is set (default 8443)"
    )
    parser.add_argument("--metrics-port", type=int, help="port on 127.0.0.1 for Prometheus (default none)")
    parser.add_argument("--log-dir", default=Path("logs"), type=Path, help="log directory (default logs)")
    arguments = parser.parse_args()
    ports = Ports(arguments.port, arguments.tls_port, arguments.metrics_port)
    try:
        settings = read_settings()
        configure_logs(settings, sys.stderr)
        Launcher(settings, arguments.host, ports, arguments.log_dir).run(_announce)
    except (SettingsError, CertificateError, StackError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename or 'A file'} cannot be used: {error.strerror}\n")
        return 1
    return 0


def _announce(url: str) -> None:
    sys.stdout.write(f"Sealpost is ready on {url} (Ctrl-C ends it)\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
