"""Self-signed certificates, created when no other is configured."""

from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ...settings import Settings
from ..files import write_private
from .certificates import CertificateError, read_chain, read_pair, self_signed_files

LIFE = timedelta(days=730)
"""Validity of a self-signed certificate. Some systems reject more than 825 days, whatever the issuer."""
RENEWAL = timedelta(days=90)
"""A self-signed certificate is replaced when it expires within this time."""
_CLOCK_SKEW = timedelta(hours=1)
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_KEY_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def public_hosts(settings: Settings) -> list[str]:
    """Return the public host names of the service, if a setting names one."""
    host = urlsplit(settings.public_url or "").hostname
    return [host] if host else []


def ensure_self_signed(directory: Path, hosts: Iterable[str]) -> bool:
    """Create a self-signed certificate in a directory unless a valid one exists, and return whether it was created.

    A valid one has this machine's names and the given ones, and does not expire within `RENEWAL`. The files have mode
    0600. Raises `CertificateError` if they cannot be written.
    """
    certificate, key = self_signed_files(directory)
    names = _names([*_THIS_MACHINE, *hosts])
    if _is_good(certificate, key, names):
        return False
    private_key = ec.generate_private_key(ec.SECP256R1())
    try:
        certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # After a crash between the two, the key does not match, and the next start creates another pair.
        write_private(key, private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        write_private(certificate, _sign(private_key, names).public_bytes(Encoding.PEM))
    except OSError as error:
        raise CertificateError(f"A certificate cannot be written to {certificate.parent}: {error.strerror}.") from None
    return True


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    """Return hosts as names of a certificate, without wildcard addresses such as 0.0.0.0."""
    names: list[x509.GeneralName] = []
    for host in filter(None, dict.fromkeys(hosts)):
        try:
            address = ip_address(host.partition("%")[0])
        except ValueError:
            # No client can request a name that cannot be encoded.
            with suppress(UnicodeError):
                names.append(x509.DNSName(host.encode("idna").decode("ascii")))
        else:
            if not address.is_unspecified:
                names.append(x509.IPAddress(address))
    return names


def _is_good(certificate: Path, key: Path, names: list[x509.GeneralName]) -> bool:
    try:
        read_pair(certificate, key)
        found = read_chain(certificate)[0]
        listed = list(found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except (CertificateError, x509.ExtensionNotFound):
        return False
    return found.not_valid_after_utc - datetime.now(UTC) > RENEWAL and all(name in listed for name in names)


def _sign(key: ec.EllipticCurvePrivateKey, names: list[x509.GeneralName]) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sealpost")])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        # A client that trusts the certificate trusts this service only, not other certificates that its key signs.
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, SHA256())
    )
