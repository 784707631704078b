"""The certificate that nginx serves: a checked copy, updated when its source files change."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ..core.files import write_private
from ..core.tls.certificates import CertificateError, certificate_files, read_pair
from ..core.tls.self_signed import ensure_self_signed, public_hosts
from ..settings import Settings

_SETTLING = 2.0  # seconds; a renewal writes the two files one after the other
_Version = tuple[int, int, int] | None


def check_certificate(settings: Settings) -> bool:
    """Return whether the stack serves TLS; writes nothing.

    Raises `SettingsError` and `CertificateError` for a configured certificate that cannot be served.
    """
    files = certificate_files(settings)
    if settings.tls == "files" and files:
        read_pair(*files)
    return files is not None


def provide_certificate(
    settings: Settings, host: str, path: Path, say: Callable[[str], None]
) -> "ServedCertificate | None":
    """Install the certificate for nginx at a path, and create a self-signed one if needed. Return None without TLS.

    ``host`` is the address that the stack listens on. Raises `SettingsError` and `CertificateError`.
    """
    path.unlink(missing_ok=True)  # a run that was killed may have left it
    files = certificate_files(settings)
    if files is None:
        return None
    if settings.tls == "self-signed" and ensure_self_signed(settings.data_dir, [host, *public_hosts(settings)]):
        say(f"Created a self-signed certificate. Clients must trust {files[0]}.")
    served = ServedCertificate(*files, path)
    served.install()
    return served


class ServedCertificate:
    """A file with certificate, chain and key, copied from two files that may be replaced at any time.

    The file is replaced atomically, so nginx never reads a certificate with the key of another.
    """

    def __init__(self, certificate: Path, key: Path, path: Path) -> None:
        self.path = path
        self._sources = (certificate, key)
        self._seen: list[_Version] = []
        self._settled_at: float | None = None

    def install(self) -> datetime:
        """Copy the current files, and return when the certificate expires.

        Raises `CertificateError` if they cannot be served; the previous copy then stays.
        """
        self._seen = self._versions()
        pair = read_pair(*self._sources)
        try:
            write_private(self.path, (pair.certificate + pair.key).encode())
        except OSError as error:
            raise CertificateError(f"{self.path} cannot be written: {error.strerror}.") from None
        return pair.not_after

    def follow(self, say: Callable[[str], None]) -> bool:
        """Copy the files if they have changed, and return whether nginx must reload.

        Each change is reported to ``say`` once, whether it could be served or not.
        """
        if not self._have_changed():
            return False
        try:
            expires_at = self.install()
        except CertificateError as error:
            say(f"The certificate files have changed but cannot be used; the old certificate stays. {error}")
            return False
        say(f"The certificate has changed, and nginx reloads it. It expires on {expires_at:%Y-%m-%d}.")
        return True

    def remove(self) -> None:
        """Delete the copy, which contains the key."""
        self.path.unlink(missing_ok=True)

    def _have_changed(self) -> bool:
        """Return, once per change, whether the files have changed and then stayed unchanged for `_SETTLING`."""
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
