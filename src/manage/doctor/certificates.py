"""Checks of the TLS certificates: validity and trust."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from cryptography import x509
from yarl import URL

from ...core.clock import utc_now
from ...core.tls.certificates import CertificateError, certificate_files, read_chain, read_pair
from ...settings import Settings, SettingsError
from .examination import Outcome, Status, describe_os_error, failed, in_thread, not_checked, ok, warning, worst

SOON = timedelta(days=21)


async def examine_certificate(address: URL, now: Callable[[], datetime]) -> Outcome:
    """Check the certificate that is served at an address, and whether this host trusts it."""
    if address.scheme != "https":
        return not_checked(f"TLS is off at {address}")
    # Accept any certificate, so that an untrusted one can be examined.
    accept_any = ssl.create_default_context()
    accept_any.check_hostname, accept_any.verify_mode = False, ssl.CERT_NONE
    try:
        certificate = await _fetch_certificate(address, accept_any)
    except OSError as error:
        return failed(
            f"{address} presents no certificate: {describe_os_error(error)}",
            "Check that nginx, or the proxy that terminates TLS, is running there, and see its log.",
        )
    return worst([judge(certificate, now()), await _check_trust(address)])


async def examine_certificate_files(
    settings: Settings | None, environment: Mapping[str, str], now: Callable[[], datetime] = utc_now
) -> Outcome:
    """Check whether the stack could start with its certificate files, and when the certificate expires."""
    if settings is None:
        return not_checked("the settings are invalid")
    if settings.tls == "off":
        return not_checked("TLS is off")
    if environment.get("RUN_DIR"):
        return not_checked("the files are in the container of nginx")
    try:
        return await in_thread(lambda: _judge_files(settings, now()))
    except (CertificateError, SettingsError) as error:
        return failed(str(error), "Provide valid files: see docs/operations.md, TLS.")


def _judge_files(settings: Settings, now: datetime) -> Outcome:
    files = certificate_files(settings)
    assert files is not None  # noqa: S101 (TLS is on)
    if settings.tls == "self-signed" and not files[0].exists():
        return not_checked(f"{files[0]} does not exist yet: the stack creates it at startup")
    outcome = judge(read_chain(files[0])[0], now)
    if outcome.status is not Status.FAILED:
        read_pair(*files)
    return outcome


def judge(certificate: x509.Certificate, now: datetime) -> Outcome:
    """Check the validity period of a certificate."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        return failed(f"it expired on {ends:%Y-%m-%d}", "Renew and reload it: clients refuse to connect.")
    if now < begins:
        return failed(
            f"it is not valid before {begins:%Y-%m-%d %H:%M}Z", "Check the clock of its issuer and of this host."
        )
    found = f"it is valid until {ends:%Y-%m-%d}, for {(ends - now).days} more days"
    if ends - now < SOON:
        return warning(found, "Renew it. Automatic renewal should have happened by now.")
    return ok(found)


async def _check_trust(address: URL) -> Outcome:
    try:
        await _fetch_certificate(address, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return warning(
            f"this host does not trust it: {error.verify_message}",
            "Clients do not trust it either, unless configured to. Serve a certificate of a public authority for this"
            " name, with its full chain.",
        )
    return ok("this host trusts it")


async def _fetch_certificate(address: URL, context: ssl.SSLContext) -> x509.Certificate:
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=address.host)
    try:
        encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return x509.load_der_x509_certificate(encoded)
