"""What has gone wrong below HTTP, in plain words."""

import os
import ssl

import aiohttp

from .errors import NotSealpost, OutcomeUnknown, Unreachable


def explain_failure(error: Exception, *, url: str, timeout: float) -> Unreachable:
    """Return what a failed request means; ``timeout`` is what it was given, in seconds."""
    found: Unreachable
    match error:
        case aiohttp.ClientConnectorCertificateError():
            found = Unreachable(f"{url} is not trusted: {_explain_certificate(error.certificate_error)}")
        case aiohttp.ClientSSLError():
            found = Unreachable(f"{url} does not speak TLS as it should; is it plain http there?")
        case aiohttp.ClientConnectorDNSError():
            found = Unreachable(f"{url} cannot be reached: there is no host of this name, or no network")
        case aiohttp.ClientConnectorError():
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "no connection"
            found = Unreachable(f"{url} cannot be reached: {reason}", passing=True)
        case aiohttp.ConnectionTimeoutError():
            found = Unreachable(f"{url} cannot be reached: it does not accept a connection")
        case TimeoutError():
            found = OutcomeUnknown(f"{url} did not answer within {timeout:g} s")
        case aiohttp.InvalidURL():
            found = Unreachable(f"{url} is no usable URL")
        case aiohttp.ClientResponseError():
            found = NotSealpost(f"what answers at {url} does not speak HTTP")
        case _:
            found = OutcomeUnknown(f"the connection to {url} was lost", passing=True)
    return found


def _explain_certificate(error: Exception) -> str:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    return (
        f"its certificate cannot be verified ({reason}). If the server is your own and its certificate is not from a"
        " public authority, name the certificate, or its authority's, with --ca-file FILE. Otherwise somebody may be"
        " listening in"
    )
