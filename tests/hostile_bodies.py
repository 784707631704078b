"""The bodies of 1 MiB that are most expensive to reject, and one that is free to send."""

import zlib
from collections.abc import Callable, Iterator

SIZE = 1024 * 1024


def _filled(head: bytes, item: Callable[[int], bytes] | bytes, tail: bytes, separator: bytes = b",") -> bytes:
    """Return a body of almost `SIZE` bytes, with as many items as fit between head and tail."""
    left = SIZE - len(head) - len(tail)
    if isinstance(item, bytes):
        return head + separator.join([item] * (left // (len(item) + len(separator)))) + tail
    items: list[bytes] = []
    while True:
        items.append(item(len(items)))
        left -= len(items[-1]) + len(separator)
        if left < len(items[-1]) + len(separator):
            return head + separator.join(items) + tail


def _texts() -> Iterator[tuple[str, bytes]]:
    """Return JSON that is slow to parse or to report errors for."""
    yield "unknown fields", _filled(b"{", lambda index: b'"%x":1' % index, b"}")
    yield "unknown empty lists", _filled(b"{", lambda index: b'"%x":[]' % index, b"}")
    yield "empty lists", _filled(b'{"a":[', b"[]", b"]}")
    yield "empty objects", _filled(b'{"a":[', b"{}", b"]}")
    yield "nested lists", _filled(b'{"a":[', b"[" * 100 + b"]" * 100, b"]}")
    yield "nested objects", _filled(b'{"a":[', b'{"":' * 100 + b"1" + b"}" * 100, b"]}")
    yield "brackets in strings", _filled(b'{"a":[', b'"["', b"]}")
    yield "escaped quotes", b'{"str":"' + b'[\\"' * (SIZE // 3 - 10) + b'"}'
    yield "open lists", b"[" * SIZE
    yield "open objects", b'{"":' * (SIZE // 4)
    yield "numbers", _filled(b'{"a":[', b"1", b"]}")
    yield "long numbers", _filled(b'{"a":[', b"1" * 4300, b"]}")
    yield "one number", b'{"a":' + b"1" * (SIZE - 6) + b"}"
    yield "one fraction", b'{"a":0.' + b"1" * (SIZE - 8) + b"}"
    yield "one exponent", b'{"a":1e' + b"1" * (SIZE - 8) + b"}"
    yield "one string", b'{"username":"' + b"\\u0000" * (SIZE // 6 - 4) + b'"}'
    yield "one name", b'{"' + b"\\u0000" * (SIZE // 6 - 2) + b'":1}'
    yield "a field over and over", _filled(b"{", b'"username":1', b"}")
    yield "unknown parts of a ttl", _filled(b'{"ttl":{', lambda index: b'"%x":1' % index, b"}}")
    yield "wrong messages", _filled(b'{"message_type":"MESSAGE","messages":[', b"1", b"]}")
    yield "too many messages", _filled(b'{"message_type":"MESSAGE","messages":[', b'""', b"]}")
    yield "wrong scopes", _filled(b'{"name":"x","scopes":[', b"1", b"]}")
    yield "too many scopes", _filled(b'{"name":"x","scopes":[', b'"echo"', b"]}")
    yield "white space", b" " * SIZE


def _forms() -> Iterator[tuple[str, bytes]]:
    """Return forms that are slow to decode."""
    yield "fields", _filled(b"", lambda index: b"%x=" % index, b"", b"&")
    yield "no fields", b"&" * SIZE
    yield "escapes", b"message=" + b"%41" * (SIZE // 3 - 4)
    yield "escapes and text", b"message=" + "%41é".encode() * (SIZE // 5 - 4)
    yield "stray per cent signs", b"message=" + b"%" * (SIZE - 8)
    yield "a name of escapes", b"%41" * (SIZE // 3)


def bomb() -> bytes:
    """Return almost 1 MiB of gzip that inflates to 1000 times its size."""
    deflating = zlib.compressobj(9, wbits=31)
    head = deflating.compress(bytes(SIZE)) + deflating.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, a block does not refer to earlier ones.
    block = deflating.compress(bytes(SIZE)) + deflating.flush(zlib.Z_FULL_FLUSH)
    return head + block * ((SIZE - len(head)) // len(block))


JSON_BODIES = dict(_texts())
FORM_BODIES = dict(_forms())
