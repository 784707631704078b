"""The versions and suites that a TLS server accepts, tested with a custom ClientHello: libraries lack old ones."""

import os
import socket
import struct
from dataclasses import dataclass

from .processes import PATIENCE

SSL_3, TLS_1_0, TLS_1_1, TLS_1_2 = 0x0300, 0x0301, 0x0302, 0x0303
HANDSHAKE_FAILURE, PROTOCOL_VERSION = 40, 70
"""Alerts of RFC 8446, section 6: nothing in common, and a version that is not spoken."""
ECDHE_RSA_GCM = (0xC02F, 0xC030, 0xCCA8)
"""What a server with a key of RSA should accept: AES-128-GCM, AES-256-GCM and ChaCha20-Poly1305."""
WEAK = {
    "NULL": (0x0000, 0x0001, 0x0002, 0x003B, 0xC006, 0xC010),
    "EXPORT": (0x0003, 0x0006, 0x0008, 0x000B, 0x000E, 0x0011, 0x0014, 0x0017, 0x0019),
    "anonymous": (0x0018, 0x001B, 0x0034, 0x003A, 0x006C, 0x00A6, 0x00A7, 0xC017, 0xC018, 0xC019),
    "RC4": (0x0004, 0x0005, 0xC007, 0xC011),
    "DES and 3DES": (0x0009, 0x000A, 0x0015, 0x0016, 0xC008, 0xC012),
    "IDEA, SEED, Camellia": (0x0007, 0x0041, 0x0084, 0x0096, 0x0045, 0x009A, 0xC072, 0xC076),
    "RSA key exchange": (0x002F, 0x0035, 0x003C, 0x003D, 0x009C, 0x009D, 0xC09C, 0xC09D),
    "static Diffie-Hellman": (0x0030, 0x0036, 0x00A0, 0x00A4, 0xC004, 0xC00E, 0xC02D, 0xC031),
    "CBC": (0xC009, 0xC00A, 0xC013, 0xC014, 0xC023, 0xC024, 0xC027, 0xC028, 0x0033, 0x0039, 0x0067, 0x006B),
}
"""Suites by their numbers in IANA's registry of TLS cipher suites."""
_ALERT, _HANDSHAKE = 21, 22


@dataclass(frozen=True)
class Refusal:
    """The server sent an alert, or closed the connection without one."""

    alert: int | None


@dataclass(frozen=True)
class Acceptance:
    """The server continued with a version and a suite."""

    version: int
    suite: int


def _vector(content: bytes, size: int) -> bytes:
    return len(content).to_bytes(size, "big") + content


def _extension(number: int, content: bytes) -> bytes:
    return struct.pack("!H", number) + _vector(content, 2)


def _client_hello(version: int, suites: tuple[int, ...]) -> bytes:
    groups = struct.pack("!4H", 0x001D, 0x0017, 0x0018, 0x0019)
    signatures = struct.pack("!10H", 0x0403, 0x0503, 0x0603, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0203, 0x0201)
    extensions = (
        _extension(10, _vector(groups, 2)) + _extension(11, b"\x01\x00") + _extension(13, _vector(signatures, 2))
    )
    body = (
        struct.pack("!H", version)
        + os.urandom(32)
        + _vector(b"", 1)
        + _vector(b"".join(struct.pack("!H", suite) for suite in suites), 2)
        + _vector(b"\x00", 1)
        + _vector(extensions, 2)
    )
    message = b"\x01" + _vector(body, 3)
    return bytes([_HANDSHAKE]) + struct.pack("!H", min(version, TLS_1_0)) + _vector(message, 2)


def offer(port: int, version: int, suites: tuple[int, ...]) -> Refusal | Acceptance:
    """Offer a version up to TLS 1.2 with some suites, and return the result of a local server."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(_client_hello(version, suites))
        with connection.makefile("rb") as stream:
            head = stream.read(5)
            if not head:
                return Refusal(None)
            kind, _, length = struct.unpack("!BHH", head)
            record = stream.read(length)
    if kind == _ALERT:
        return Refusal(record[1])

    # A ServerHello: its type, its length, the version, 32 random bytes, the session's id, and the suite.
    assert (_HANDSHAKE, 2) == (kind, record[0])
    suite_at = 39 + record[38]
    return Acceptance(*struct.unpack("!H", record[4:6]), *struct.unpack("!H", record[suite_at : suite_at + 2]))
