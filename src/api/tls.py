"""TLS for a single process: its certificate, and reloading it at run time."""

import ssl
from pathlib import Path

import structlog

from ..core.tls.certificates import CertificateError, load_context, read_pair

log = structlog.get_logger(__name__)


class ServerTls:
    """The TLS context of a server, for TLS 1.2 and later. Raises `CertificateError` for an unusable pair of files."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._certificate = certificate
        self._key = key
        self._current = self.context = self._read()
        # Reloading into this context could fail between certificate and key and break all handshakes. So a reload
        # creates a new context, and this one hands connections on to it.
        self.context.sni_callback = self._hand_on

    def renew(self) -> None:
        """Reload the files for new connections; if they are invalid, log that and keep the current certificate."""
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
