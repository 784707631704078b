"""Certificates: which are served, rejected and created."""

import re
import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from src.core.tls import self_signed
from src.core.tls.certificates import (
    CertificateError,
    certificate_files,
    not_after,
    read_chain,
    read_pair,
    self_signed_files,
)
from src.core.tls.self_signed import LIFE, RENEWAL, ensure_self_signed, public_hosts
from src.settings import Settings, SettingsError

from .certificates import DAY, make_files

P_256, P_239 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030106")
"""Object identifiers of curves."""


def pem(content: bytes) -> bytes:
    """Write a certificate as text."""
    return ssl.DER_cert_to_PEM_cert(content).encode()


def names(certificate: Path) -> list[str]:
    """Return the hosts of a certificate."""
    found = read_chain(certificate)[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_certificate_is_served_with_its_chain(tmp_path: Path, kind: str) -> None:
    """The pair has all certificates in order, the key, and the expiry of the first certificate."""
    files = make_files(tmp_path, kind=kind)
    pair = read_pair(files.certificate, files.key)

    assert b"".join(files.certificates).decode() == pair.certificate
    assert files.key.read_text() == pair.key
    assert not_after(files.certificate) == pair.not_after
    assert timedelta(minutes=1) > abs(datetime.now(UTC) + 30 * DAY - pair.not_after)


def test_certificate_and_key_may_be_one_file(tmp_path: Path) -> None:
    """They may be in either order, with the comments of other programs around them."""
    files = make_files(tmp_path)
    certificate, key = files.certificate.read_text(), files.key.read_text()
    one = tmp_path / "one.pem"
    for text in (certificate + key, key + certificate, f"subject=CN=ä\n{certificate}\nKey:\n{key}"):
        one.write_text(text)

        assert read_pair(files.certificate, files.key) == read_pair(one, one)


def test_the_key_is_not_shown(tmp_path: Path) -> None:
    """The `repr` of the pair, as in a traceback, contains neither certificate nor key."""
    files = make_files(tmp_path)

    assert "-----" not in repr(read_pair(files.certificate, files.key))


def refusal(certificate: Path, key: Path) -> str:
    """Return why a pair is rejected, and check that the reason contains nothing of the key."""
    with pytest.raises(CertificateError) as caught:
        read_pair(certificate, key)
    secrets = [line for line in key.read_bytes().splitlines() if len(line) > 20] if key.is_file() else []

    assert [] == [line for line in secrets if line in str(caught.value).encode()]
    return str(caught.value)


def test_invalid_files_are_reported_with_the_reason(tmp_path: Path) -> None:
    """Files that are missing, of another kind, encrypted, in the wrong order, or that do not match."""
    good, other = make_files(tmp_path), make_files(tmp_path, name="other")
    key = load_pem_private_key(good.key.read_bytes(), None)
    written = {
        "encrypted": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")),
        "reversed": b"".join(reversed(good.certificates)),
        "empty": b"",
        "cut": good.certificate.read_bytes()[:200],
        "binary": bytes(range(256)),
        # As if it were on an unsupported curve.
        "odd": pem(read_chain(good.certificate)[0].public_bytes(Encoding.DER).replace(P_256, P_239)),
        "dsa": dsa.generate_private_key(2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    paths = {name: tmp_path / name for name in (*written, "missing", "link")}
    for name, content in written.items():
        paths[name].write_bytes(content)
    paths["link"].symlink_to("/no/such/file")

    assert f"{paths['missing']} cannot be read: No such file" in refusal(paths["missing"], good.key)
    assert f"{tmp_path} cannot be read: Is a directory" in refusal(good.certificate, tmp_path)
    assert "It is a symbolic link to a file that does not exist here" in refusal(paths["link"], good.key)
    for name in ("empty", "cut", "binary"):
        assert f"{paths[name]} contains no certificate" in refusal(paths[name], good.key)
        assert f"{paths[name]} contains no private key" in refusal(good.certificate, paths[name])
    assert f"{good.key} contains no certificate" in refusal(good.key, good.key)
    assert f"{good.certificate} contains no private key" in refusal(good.certificate, good.certificate)
    assert "is encrypted" in refusal(good.certificate, paths["encrypted"])
    assert f"{other.key} is not the key of" in refusal(good.certificate, other.key)
    assert f"{good.key} is not the key of" in refusal(paths["odd"], good.key)
    assert "in the wrong order" in refusal(paths["reversed"], good.key)
    assert "type that TLS no longer supports" in refusal(good.certificate, paths["dsa"])


def test_a_certificate_outside_its_validity_is_rejected(tmp_path: Path) -> None:
    """An expired one and one not yet valid, with the date; the expiry can still be read."""
    ended = make_files(tmp_path, name="ended", begins=-10 * DAY, ends=-DAY)
    coming = make_files(tmp_path, name="coming", begins=DAY)

    assert f"expired on {datetime.now(UTC) - DAY:%Y-%m-%d}" in refusal(ended.certificate, ended.key)
    assert f"not valid before {datetime.now(UTC) + DAY:%Y-%m-%d}" in refusal(coming.certificate, coming.key)
    assert datetime.now(UTC) > not_after(ended.certificate)
    with pytest.raises(CertificateError, match="cannot be read"):
        not_after(tmp_path / "none")


def test_a_pair_that_openssl_rejects_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL decides last, for example about a key that is too short."""
    short_key = rsa.generate_private_key(65537, 1024)  # noqa: S505 (it is to be refused)
    monkeypatch.setattr("tests.certificates._rsa_key", lambda: short_key)
    short = make_files(tmp_path, kind="rsa")

    assert "EE_KEY_TOO_SMALL" in refusal(short.certificate, short.key)


def test_a_self_signed_certificate_is_created_once(tmp_path: Path) -> None:
    """For this machine and the requested hosts, readable only by its owner."""
    everywhere = ["0.0.0.0", "::"]  # noqa: S104 (no name of anything)
    hosts = ["words.example", "192.0.2.7", "2001:db8::7", "localhost", *everywhere, "", "bücher.example", "a..b"]
    made = [ensure_self_signed(tmp_path, hosts), ensure_self_signed(tmp_path, hosts), ensure_self_signed(tmp_path, [])]
    certificate, key = self_signed_files(tmp_path)
    read_pair(certificate, key)

    assert [True, False, False] == made
    assert ["localhost", "127.0.0.1", "::1", *hosts[:3], "xn--bcher-kva.example"] == names(certificate)
    assert [0o600, 0o600, 0o700] == [
        stat.S_IMODE(path.stat().st_mode) for path in (certificate, key, certificate.parent)
    ]
    assert {certificate, key} == set(certificate.parent.iterdir())


def test_a_self_signed_certificate_can_be_trusted(tmp_path: Path) -> None:
    """It is a valid authority for its own server under strict rules, and for nothing else."""
    ensure_self_signed(tmp_path, [])
    certificate, key = self_signed_files(tmp_path)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=certificate)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server.load_cert_chain(certificate, key)
    left, right = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(left, right, server_hostname="127.0.0.1"),
        server.wrap_bio(right, left, server_side=True),
    ]
    for side in (*sides, *sides):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = read_chain(certificate)[0]

    assert sides[0].getpeercert()
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)
    assert timedelta(minutes=1) > abs(datetime.now(UTC) + LIFE - found.not_valid_after_utc)
    assert timedelta(days=825) > found.not_valid_after_utc - found.not_valid_before_utc


def test_a_self_signed_certificate_is_replaced_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near its expiry, without a requested host, or with a missing or mismatched file."""
    certificate, key = self_signed_files(tmp_path)

    def is_made(*hosts: str) -> bool:
        return ensure_self_signed(tmp_path, hosts)

    with monkeypatch.context() as patch:
        patch.setattr(self_signed, "LIFE", RENEWAL - timedelta(minutes=1))

        assert is_made()
    assert is_made()
    assert not is_made()
    assert is_made("words.example")
    assert not is_made("words.example")
    key.unlink()
    assert is_made()
    certificate.write_bytes(make_files(tmp_path).certificate.read_bytes())
    assert is_made()
    assert not is_made()


def test_an_unwritable_certificate_directory_is_reported(tmp_path: Path) -> None:
    """Startup ends with a message."""
    (tmp_path / "tls").touch()

    with pytest.raises(CertificateError, match="A certificate cannot be written to"):
        ensure_self_signed(tmp_path, [])


def test_the_files_are_those_of_the_settings() -> None:
    """The operator's files, those under the data directory, or none."""
    own: Any = {"tls_cert": Path("c.pem"), "tls_key": Path("k.pem")}

    assert certificate_files(Settings(_env_file=None)) is None
    assert (Path("c.pem"), Path("k.pem")) == certificate_files(Settings(_env_file=None, tls="files", **own))
    assert self_signed_files(Path("d")) == certificate_files(
        Settings(_env_file=None, tls="self-signed", data_dir=Path("d"))
    )
    with pytest.raises(SettingsError, match="SEALPOST_TLS=files requires SEALPOST_TLS_CERT and SEALPOST_TLS_KEY"):
        certificate_files(Settings(_env_file=None, tls="files"))


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        (None, []),
        ("https://words.example", ["words.example"]),
        ("https://Words.example:8443/base", ["words.example"]),
        ("https://[2001:db8::7]/", ["2001:db8::7"]),
        ("https://192.0.2.7", [str(ip_address("192.0.2.7"))]),
    ],
)
def test_the_public_host_is_that_of_the_public_address(url: str | None, hosts: list[str]) -> None:
    """Without scheme, port and path."""
    assert hosts == public_hosts(Settings(_env_file=None, public_url=url))
    assert not re.search(r"[/\[\]]", "".join(hosts))
