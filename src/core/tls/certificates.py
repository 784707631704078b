"""TLS certificates, read and checked before they are served."""

import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from ...settings import Settings, SettingsError

CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
)
"""OpenSSL's names of the ciphers for TLS 1.2: authenticated encryption with forward secrecy, as in TLS 1.3."""
_USABLE_KEYS = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey, ed448.Ed448PrivateKey)


class CertificateError(Exception):
    """A certificate cannot be served; the message names the file, the fault and the remedy, and contains no key."""


@dataclass(frozen=True)
class CertificatePair:
    """A certificate with its chain and key, in PEM; ``not_after`` is when the certificate expires."""

    certificate: str = field(repr=False)
    key: str = field(repr=False)
    not_after: datetime


def read_pair(certificate: Path, key: Path) -> CertificatePair:
    """Read a certificate with its chain and key, and check that they can be served now.

    Raises `CertificateError` for files that cannot be read or used, a key that does not fit, and a certificate that is
    not valid at this time.
    """
    chain, private_key = read_chain(certificate), _read_key(key)
    _check_fit(certificate, chain, key, private_key)
    _check_time(certificate, chain[0])
    # nginx does not start if the OpenSSL policy rejects a certificate, for example for a short key.
    load_context(certificate, key)
    return CertificatePair(
        certificate="".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in chain),
        key=private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii"),
        not_after=chain[0].not_valid_after_utc,
    )


def load_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return an SSL context for a server: TLS 1.2 and later, `CIPHERS`, no tickets. Raises `CertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(":".join(CIPHERS))
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:
        reason = getattr(error, "reason", None) or error.strerror
        raise CertificateError(f"OpenSSL rejects {certificate} with {key}: {reason}.") from None
    return context


def read_chain(path: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file, in order. Raises `CertificateError`."""
    content = _read(path)
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError:
        raise CertificateError(
            f"{path} contains no certificate. It must be a PEM file, which begins with -----BEGIN CERTIFICATE-----."
        ) from None


def not_after(certificate: Path) -> datetime:
    """Return when the first certificate in a PEM file expires. Raises `CertificateError`."""
    return read_chain(certificate)[0].not_valid_after_utc


def certificate_files(settings: Settings) -> tuple[Path, Path] | None:
    """Return the paths of the certificate that the stack serves and of its key, or None without TLS.

    Raises `SettingsError` if they are required but not configured.
    """
    if settings.tls == "self-signed":
        return self_signed_files(settings.data_dir)
    if settings.tls == "files":
        if settings.tls_cert is None or settings.tls_key is None:
            raise SettingsError(
                "SEALPOST_TLS=files requires SEALPOST_TLS_CERT and SEALPOST_TLS_KEY, the paths of two PEM files"
            )
        return settings.tls_cert, settings.tls_key
    return None


def self_signed_files(directory: Path) -> tuple[Path, Path]:
    """Return the paths of a self-signed certificate and its key in a directory."""
    return directory / "tls" / "cert.pem", directory / "tls" / "key.pem"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        hint = (
            " It is a symbolic link to a file that does not exist here."
            if path.is_symlink() and not path.exists()
            else ""
        )
        raise CertificateError(f"{path} cannot be read: {error.strerror}.{hint}") from None


def _read_key(path: Path) -> PrivateKeyTypes:
    content = _read(path)
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise CertificateError(
            f"{path} is encrypted, and the service cannot ask for its pass phrase. Store it decrypted, readable only by"
            " its owner: openssl pkey -in KEY -out DECRYPTED"
        ) from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(
            f"{path} contains no private key. It must be a PEM file, which begins, for example, with -----BEGIN PRIVATE"
            " KEY-----."
        ) from None
    if not isinstance(key, _USABLE_KEYS):
        raise CertificateError(
            f"{path} has a type that TLS no longer supports. Use an ECDSA key on P-256, or an RSA key."
        )
    return key


def _check_fit(certificate: Path, chain: list[x509.Certificate], key: Path, private_key: PrivateKeyTypes) -> None:
    fitting = [_fits(private_key, each) for each in chain]
    if not fitting[0]:
        raise CertificateError(
            f"{certificate} has its certificates in the wrong order: the certificate of the key must come first, then"
            " its issuer."
            if any(fitting)
            else f"{key} is not the key of the certificate in {certificate}."
        )


def _check_time(path: Path, certificate: x509.Certificate) -> None:
    now = datetime.now(UTC)
    if now > certificate.not_valid_after_utc:
        raise CertificateError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d at %H:%M} UTC. Renew it.")
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{path} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d at %H:%M} UTC. Check the"
            " clock of this host."
        )


def _fits(key: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    try:
        return _written(certificate.public_key()) == _written(key.public_key())
    except (ValueError, UnsupportedAlgorithm):  # not a key type in `_USABLE_KEYS`
        return False


def _written(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
