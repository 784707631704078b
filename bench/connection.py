"""Blocking HTTP requests to the stack, for the parts of the bench that run in threads."""

import http.client
import json
from collections.abc import Mapping


class WrongAnswerError(Exception):
    """The stack's answer is not the expected one."""


def connect(url: str, timeout: float = 60.0) -> http.client.HTTPConnection:
    """Return a connection to a stack without TLS. It opens with the first request."""
    return http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)


def log_in(url: str, credentials: Mapping[str, str]) -> str:
    """Return an access token."""
    connection = connect(url)
    connection.request("POST", "/login", json.dumps(credentials))
    token = json.load(connection.getresponse())["access_token"]
    connection.close()
    return str(token)
