"""The certificate that nginx serves: a checked copy, updated when its source files change."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..core.files import write_private
from ..core.tls.certificates import CertificateError, certificate_files, read_pair
from ..core.tls.self_signed import ensure_self_signed, public_hosts
from ..settings import Settings

_SETTLING = 2.0  # seconds: a renewal writes one file after the other
_Version = tuple[int, int, int] | None


def check_certificate(settings: Settings) -> bool:
    """Tell whether the stack is to serve TLS; writes nothing.

    Raises `SettingsError` and `CertificateError` for a certificate of the operator's own that it cannot serve.
    """
    files = certificate_files(settings)
    if settings.tls == "files" and files:
        read_pair(*files)
    return files is not None


def provide_certificate(
    settings: Settings, host: str, path: Path, say: Callable[[str], None]
) -> "ServedCertificate | None":
    """Put what nginx serves at a path, a self-signed certificate made where none is good; None without TLS.

    ``host`` is the address that the stack listens on. Raises `SettingsError` and `CertificateError`.
    """
    path.unlink(missing_ok=True)  # a killed run may have left it
    files = certificate_files(settings)
    if files is None:
        return None
    if settings.tls == "self-signed" and ensure_self_signed(settings.data_dir, [host, *public_hosts(settings)]):
        say(f"Created a self-signed certificate. Clients must trust {files[0]}.")
    served = ServedCertificate(*files, path)
    served.install()
    return served


class ServedCertificate:
    """A file with certificate, chain and key, made of two files that may be replaced at any time.

    nginx never meets a certificate with another one's key, because the one file is replaced as a whole.
    """

    def __init__(self, certificate: Path, key: Path, path: Path) -> None:
        self.path = path
        self._sources = (certificate, key)
        self._seen: list[_Version] = []
        self._settled_at: float | None = None

    def install(self) -> datetime:
        """Take the files as they are now, and return when the certificate ends.

        Raises `CertificateError` for what cannot be served; what was served before then stays.
        """
        self._seen = self._versions()
        pair = read_pair(*self._sources)
        try:
            write_private(self.path, (pair.certificate + pair.key).encode())
        except OSError as error:
            raise CertificateError(f"{self.path} cannot be written: {error.strerror}.") from None
        return pair.not_after

    def follow(self, say: Callable[[str], None]) -> bool:
        """Take the files where they have changed, and tell whether nginx has to read its own anew.

        ``say`` hears of every change once, whether it could be taken or not.
        """
        if not self._have_changed():
            return False
        try:
            ends_at = self.install()
        except CertificateError as error:
            say(f"The certificate files have changed but cannot be used; the old certificate stays. {error}")
            return False
        say(f"The certificate has changed, and nginx reloads it. It expires on {ends_at:%Y-%m-%d}.")
        return True

    def remove(self) -> None:
        """Leave no copy of the key behind."""
        self.path.unlink(missing_ok=True)

    def _have_changed(self) -> bool:
        """Tell, once for each change, whether the files are others than those seen last, and at rest again."""
        now, versions = time.monotonic(), self._versions()
        if versions != self._seen:
            self._seen, self._settled_at = versions, now + _SETTLING
        if self._settled_at is None or now < self._settled_at:
            return False
        self._settled_at = None
        return True

    def _versions(self) -> list[_Version]:
        return [_version(path) for path in self._sources]


def _version(path: Path) -> _Version:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
