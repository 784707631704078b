"""MalformedRequest requests of every kind. Each must get a problem of 400 to 499."""

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass

from .client import ApiClient, TimedResponse

ROUTES = (
    ("POST", "/generate"),
    ("POST", "/"),
    ("POST", "/register"),
    ("POST", "/login"),
    ("POST", "/refresh"),
    ("POST", "/tokens"),
    ("POST", "/posts"),
    ("POST", "/echo"),
    ("PUT", "/me/password"),
    ("DELETE", "/me"),
)
NO_OBJECTS = {
    "no JSON": b"secret",
    "nothing": b"",
    "cut off": b'{"secret": "x"',
    "no UTF-8": b'{"secret": "\xff"}',
    "UTF-16": '{"secret": "x"}'.encode("utf-16"),
    "half a surrogate pair": b'{"secret": "\\ud800", "str": "\\udfff"}',
    "no number": b'{"secret": NaN, "str": NaN}',
    "a list": b"[]",
    "null": b"null",
    "a text": b'"secret"',
    "nested deeply": b'{"secret": ' + b"[" * 100_000,
    "two objects": b"{}{}",
    "a NUL at the end": b"{}\0",
}
WRONG_FIELDS: dict[tuple[str, str], list[dict[str, object]]] = {
    ("POST", "/generate"): [
        {},
        {"secret": ""},
        {"secret": 1},
        {"secret": None},
        {"secret": "x", "unknown": 1},
        {"secret": "x", "phrase": ""},
        {"secret": "x", "phrase": "x" * 1025},
        {"secret": "x", "ttl": {}},
        {"secret": "x", "ttl": {"days": 0}},
        {"secret": "x", "ttl": {"days": -1}},
        {"secret": "x", "ttl": {"days": 1e30}},
        {"secret": "x", "ttl": {"years": 1}},
        {"secret": "x", "ttl": 60},
        {"secret": "x", "max_opens": 0},
        {"secret": "x", "max_opens": 101},
        {"secret": "x", "max_opens": "1"},
        {"secret": "x", "max_opens": True},
        {"secret": "x", "max_attempts": 1.5},
    ],
    ("POST", "/"): [{}, {"message": ""}, {"message": ["x"]}, {"message": "x", "max_opens": 1}],
    ("POST", "/register"): [
        {"username": "ab", "password": "long enough"},
        {"username": "a b c", "password": "long enough"},
        {"username": "abc", "password": "short"},
        {"username": "abc", "password": "x" * 1025},
        {"username": ["abc"], "password": "long enough"},
    ],
    ("POST", "/login"): [{"username": "abc"}, {"username": {"$ne": 1}, "password": {"$ne": 1}}],
    ("POST", "/refresh"): [{"refresh_token": 1}, {"refresh_token": "x" * 4097}, {"refresh_token": "sr_x"}],
    ("POST", "/tokens"): [
        {"name": "", "scopes": ["echo"]},
        {"name": "x", "scopes": []},
        {"name": "x", "scopes": ["everything"]},
        {"name": "x", "scopes": ["echo", "echo"]},
        {"name": "x", "scopes": ["echo"], "expires_in_days": 0},
    ],
    ("POST", "/posts"): [
        {"title": "x"},
        {"content": ""},
        {"content": "x" * 10_001},
        {"content": "x", "title": ""},
        {"content": "x", "ttl": {"days": 3651}},
    ],
    ("POST", "/echo"): [{}, {"str": None}, {"str": 1}, {"str": "x", "auth": 1}, {"str": "x", "auth": "x" * 4097}],
    ("PUT", "/me/password"): [{"current": "x"}, {"current": "x", "new": "short"}],
}
PATHS = (
    ("GET", "/no-such-address"),
    ("GET", "/secrets/"),
    ("GET", "/secrets/short"),
    ("GET", "/secrets/" + "%00" * 43),
    ("GET", "/secrets/..%2f..%2fetc%2fpasswd"),
    ("POST", "/secrets/" + "=" * 43),
    ("GET", "/message/" + "%ff" * 43),
    ("GET", "/receipts/short"),
    ("DELETE", "/receipts/" + "x" * 60),
    ("GET", "/posts/zero"),
    ("DELETE", "/tokens/zero"),
    ("DELETE", "/sessions/zero"),
    ("GET", "/posts?limit=0"),
    ("GET", "/posts?limit=101"),
    ("GET", "/posts?limit=x"),
    ("GET", "/posts?limit=1&limit=1"),
    ("GET", "/posts?unknown=1"),
    ("GET", "/posts?cursor=x"),
    ("GET", "/posts/analytics"),
    ("GET", "/posts/analytics?from=2026-01-02&to=2026-01-01"),
    ("GET", "/posts/analytics?from=2020-01-01&to=2026-01-01"),
    ("GET", "/posts/analytics?from=yesterday&to=today"),
    ("DELETE", "/generate"),
    ("PUT", "/echo"),
    ("PATCH", "/me"),
    ("GET", "/login"),
    ("POST", "/healthz"),
)
TOKENS = ("", "x", "sp_" + "0" * 72, "eyJhbGciOiJub25lIn0.e30.", "a.b.c", "x" * 5000)
HTTP = {
    "garbage": b"GARBAGE\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a control character in a header": b"GET /healthz HTTP/1.1\r\nHost: a\r\nBad\x01: 1\r\n\r\n",
    "a length that is none": b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "a negative length": b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST /generate HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a length and chunks": b"POST /generate HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk without a size": b"POST /generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "a path that is no ASCII": b"GET /secrets/\xff HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a percent sign alone": b"GET /secrets/%zz HTTP/1.1\r\nHost: a\r\n\r\n",
    "a method that is none": b"BAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "TRACE": b"TRACE /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    "a header too large": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
    "an address too long": b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@dataclass(frozen=True)
class MalformedRequest:
    """A malformed request, or ``raw`` bytes that are not HTTP; without a ``token``, it is sent with the caller's."""

    kind: str
    method: str = ""
    path: str = ""
    body: bytes | None = None
    token: str | None = None
    raw: bytes = b""

    async def send(self, client: ApiClient, token: str) -> TimedResponse:
        """Send the request, with the given token unless it has its own, and return the response."""
        if self.raw:
            return await client.send_raw(self.raw)
        own = token if self.token is None else self.token
        return await client.send(self.method, self.path, self.body, token=own)


def malformed_requests() -> list[MalformedRequest]:
    """Return all malformed requests, with the kinds interleaved."""
    kinds = [list(_no_objects()), list(_wrong_fields()), list(_bad_paths()), list(_bad_tokens()), list(_bad_http())]
    interleaved = itertools.zip_longest(*kinds)
    return [request for row in interleaved for request in row if request is not None]


def _no_objects() -> Iterator[MalformedRequest]:
    for (kind, body), (method, path) in itertools.product(NO_OBJECTS.items(), ROUTES):
        yield MalformedRequest(f"{method} {path}, {kind}", method, path, body)


def _wrong_fields() -> Iterator[MalformedRequest]:
    for (method, path), bodies in WRONG_FIELDS.items():
        for number, fields in enumerate(bodies):
            yield MalformedRequest(f"{method} {path}, wrong fields {number}", method, path, json.dumps(fields).encode())


def _bad_paths() -> Iterator[MalformedRequest]:
    for method, path in PATHS:
        yield MalformedRequest(f"{method} {path}", method, path)


def _bad_tokens() -> Iterator[MalformedRequest]:
    for number, token in enumerate(TOKENS):
        yield MalformedRequest(f"token {number}", "POST", "/echo", b'{"str": "x"}', token)


def _bad_http() -> Iterator[MalformedRequest]:
    for kind, raw in HTTP.items():
        yield MalformedRequest(f"HTTP: {kind}", raw=raw)
