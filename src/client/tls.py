"""Certificate verification."""

import ssl
from pathlib import Path

from .errors import WrongUsage


def tls_context(*, ca_file: Path | None = None, insecure: bool = False) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and those in ``ca_file``; with ``insecure``, any.

    Raises `WrongUsage` for an unusable file.
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
            raise WrongUsage(f"{ca_file} contains no certificate in PEM format") from None
        except OSError as error:
            raise WrongUsage(f"cannot read {ca_file}: {error.strerror}") from None
    return context
