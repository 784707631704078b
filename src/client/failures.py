"""What has gone wrong below HTTP, in plain words."""

import os
import ssl
from http import HTTPStatus

import aiohttp

from .errors import NotSealpost, OutcomeUnknown, Unreachable
from .proxies import Proxy

NO_HOST = "there is no host of this name, or no network"


def explain_failure(error: Exception, *, url: str, timeout: float, proxy: Proxy | None = None) -> Unreachable:
    """Return what a failed request means; ``timeout`` is what it was given, in seconds."""
    found: Unreachable
    if proxy and (failure := _explain_proxy_failure(error, url=url, proxy=proxy)):
        return failure
    match error:
        case aiohttp.ClientConnectorCertificateError():
            found = Unreachable(f"{url} is not trusted: {_explain_certificate(error.certificate_error)}")
        case aiohttp.ClientSSLError():
            found = Unreachable(f"{url} does not speak TLS as it should; is it plain http there?")
        case aiohttp.ClientConnectorDNSError():
            found = Unreachable(f"{url} cannot be reached: {NO_HOST}")
        case aiohttp.ClientConnectorError():
            found = Unreachable(f"{url} cannot be reached: {_explain_connection(error)}", passing=True)
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


def explain_proxy_refusal(status: int, *, url: str, proxy: Proxy) -> Unreachable:
    """Return what the status of a proxy means that passed nothing on."""
    if status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        if proxy.authorization:
            return Unreachable(f"{proxy} refuses the user name and password in {proxy.variable} (407)")
        return Unreachable(f"{proxy} requires a user name and a password: http://USER:PASSWORD@HOST:PORT (407)")
    passing = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    verb = "cannot reach" if passing else "refuses to connect to"
    return Unreachable(f"{proxy} {verb} {url} ({status})", passing=passing)


def _explain_proxy_failure(error: Exception, *, url: str, proxy: Proxy) -> Unreachable | None:
    """Return what has gone wrong on the way to the proxy or in it; None for what is not of the proxy alone."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return explain_proxy_refusal(error.status, url=url, proxy=proxy)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable(f"{proxy} cannot be reached: {NO_HOST}")
        case aiohttp.ClientProxyConnectionError():
            return Unreachable(f"{proxy} cannot be reached: {_explain_connection(error)}", passing=True)
        case aiohttp.ConnectionTimeoutError():
            return Unreachable(f"{url} cannot be reached: {proxy} makes no connection to it")
        case _:
            return None


def _explain_connection(error: aiohttp.ClientConnectorError) -> str:
    return os.strerror(error.errno) if error.errno and error.errno > 0 else "no connection"


def _explain_certificate(error: Exception) -> str:
    reason = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else str(error)
    return (
        f"its certificate cannot be verified ({reason}). If the server is your own and its certificate is not from a"
        " public authority, name the certificate, or its authority's, with --ca-file FILE. Otherwise somebody may be"
        " listening in"
    )
