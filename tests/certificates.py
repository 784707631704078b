"""Certificates for tests, signed by an authority of their own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Files:
    """A certificate with its issuer after it, and its key; ``authority`` is the file of the issuer alone."""

    certificate: Path
    key: Path
    authority: Path

    @property
    def certificates(self) -> list[bytes]:
        """The certificates in their order."""
        found = x509.load_pem_x509_certificates(self.certificate.read_bytes())
        return [each.public_bytes(Encoding.PEM) for each in found]


@cache
def _rsa_key() -> rsa.RSAPrivateKey:
    # It takes its time.
    return rsa.generate_private_key(65537, 2048)


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _sign(subject: str, key: Key, issuer: str, issuer_key: Key, begins: timedelta, ends: timedelta) -> x509.Certificate:
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .sign(issuer_key, SHA256())
    )


def make_files(
    directory: Path,
    *,
    name: str = "cert",
    kind: str = "ec",
    begins: timedelta = -DAY,
    ends: timedelta = 30 * DAY,
) -> Files:
    """Write a certificate for this machine with a key of a kind, ``ec`` or ``rsa``."""
    key: Key = _rsa_key() if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    issuer_key = ec.generate_private_key(ec.SECP256R1())
    authority = f"authority of {name}"
    issuer = _sign(authority, issuer_key, authority, issuer_key, min(begins, -DAY), 60 * DAY)
    certificate = _sign(name, key, authority, issuer_key, begins, ends)
    files = Files(*(directory / f"{name}{suffix}.pem" for suffix in ("", ".key", ".authority")))
    files.certificate.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, issuer)))
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    files.authority.write_bytes(issuer.public_bytes(Encoding.PEM))
    return files
