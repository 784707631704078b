"""TLS for one process: the certificate that it serves, and its renewal while it runs."""

import ssl
from pathlib import Path

import structlog

from ..core.tls.certificates import CertificateError, load_context, read_pair

log = structlog.get_logger(__name__)


class ServerTls:
    """The context for a server's connections, TLS 1.2 and later.

    Raises `CertificateError` for a certificate and a key that cannot be served.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._current = self.context = self._read()
        # A context that has taken a certificate and not its key would serve nobody, so a renewal makes a new one; those
        # who connect to this one are handed on to it.
        self.context.sni_callback = self._hand_on

    def renew(self) -> None:
        """Read the files anew, for connections from now on; what cannot be served changes nothing, and is logged."""
        try:
            self._current = self._read()
        except CertificateError as error:
            log.error("certificate cannot be loaded: the old one stays in use", reason=str(error))

    def _read(self) -> ssl.SSLContext:
        pair = read_pair(self._certificate, self._key)
        context = load_context(self._certificate, self._key)
        log.info("certificate loaded", ends_at=pair.not_after.isoformat())
        return context

    def _hand_on(self, connection: ssl.SSLObject, _: str | None, __: ssl.SSLContext) -> None:
        connection.context = self._current
