"""The certificates of TLS: how long they are good, and who believes them."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from cryptography import x509
from yarl import URL

from ...core.clock import utc_now
from ...core.tls.certificates import CertificateError, certificate_files, read_chain, read_pair
from ...settings import Settings, SettingsError
from .examination import Mark, Outcome, failed, in_thread, in_words, not_checked, ok, warning, worst

SOON = timedelta(days=21)


async def examine_certificate(address: URL, now: Callable[[], datetime]) -> Outcome:
    """Read the certificate that is served at an address, and tell whether this host believes it."""
    if address.scheme != "https":
        return not_checked(f"TLS is off at {address}")
    # Read first, believed or not: what is wrong with a certificate stands in it.
    anything = ssl.create_default_context()
    anything.check_hostname, anything.verify_mode = False, ssl.CERT_NONE
    try:
        certificate = await _served(address, anything)
    except OSError as error:
        return failed(
            f"{address} shows none: {in_words(error)}",
            "Look whether nginx, or what is to end TLS, runs there, and at its log.",
        )
    return worst([judge(certificate, now()), await _believe(address)])


async def examine_certificate_files(
    settings: Settings | None, environment: Mapping[str, str], now: Callable[[], datetime] = utc_now
) -> Outcome:
    """Tell whether the stack could start with the files of its certificate, and how long that is good."""
    if settings is None:
        return not_checked("the settings come first")
    if settings.tls == "off":
        return not_checked("TLS is off")
    if environment.get("RUN_DIR"):
        return not_checked("nginx has them, in a container of its own")
    try:
        return await in_thread(lambda: _judge_files(settings, now()))
    except (CertificateError, SettingsError) as error:
        return failed(str(error), "Put files there that can be served: docs/operations.md, TLS, has what they hold.")


def _judge_files(settings: Settings, now: datetime) -> Outcome:
    files = certificate_files(settings)
    assert files is not None  # noqa: S101 (TLS is on)
    if settings.tls == "self-signed" and not files[0].exists():
        return not_checked(f"{files[0]} is not there: the stack makes it when it starts")
    outcome = judge(read_chain(files[0])[0], now)
    if outcome.mark is not Mark.FAILED:
        read_pair(*files)
    return outcome


def judge(certificate: x509.Certificate, now: datetime) -> Outcome:
    """Tell how long a certificate is still good."""
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if now >= ends:
        return failed(f"it expired on {ends:%Y-%m-%d}", "Renew it, and have it loaded: clients refuse to connect.")
    if now < begins:
        return failed(f"it is not good before {begins:%Y-%m-%d %H:%M}Z", "Compare the clock of whoever made it.")
    found = f"it is good until {ends:%Y-%m-%d}, {(ends - now).days} more days"
    if ends - now < SOON:
        return warning(found, "Renew it: what renews it by itself should have done so by now.")
    return ok(found)


async def _believe(address: URL) -> Outcome:
    try:
        await _served(address, ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return warning(
            f"this host does not believe it: {error.verify_message}",
            "Clients do not either, unless they are told to: serve one of a known authority for this name, with its"
            " whole chain.",
        )
    return ok("this host believes it")


async def _served(address: URL, context: ssl.SSLContext) -> x509.Certificate:
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=context, server_hostname=address.host)
    try:
        encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    return x509.load_der_x509_certificate(encoded)
