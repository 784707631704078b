"""How the server's certificate is checked."""

import ssl
from pathlib import Path

from .errors import WrongUsage


def tls_context(*, ca_file: Path | None = None, insecure: bool = False) -> ssl.SSLContext:
    """Return what checks certificates: against the system's authorities, and those of ``ca_file`` besides.

    ``insecure`` checks nothing. Raises `WrongUsage` for a file that cannot be used.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except ssl.SSLError:
            raise WrongUsage(f"{ca_file} has no certificate in PEM format") from None
        except OSError as error:
            raise WrongUsage(f"{ca_file} cannot be read: {error.strerror}") from None
    return context
