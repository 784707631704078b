"""Splitting a batch into requests, each within the server's limits, and identically on each retry."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

MOST_LINES = 1000
"""Lines in a batch; the server's limit for a request."""
LARGEST_BODY = 1024 * 1024 - 8192
"""Bytes of messages in a request; the rest of its 1 MiB is for the token and the JSON around it."""
LONGEST_CHARACTER = 6
"""Bytes of a character in JSON, such as ``\\u001b``."""
LONGEST_PIECE = LARGEST_BODY // LONGEST_CHARACTER - 1
"""Characters in a message that always fit into a request."""
AROUND = 4
"""Bytes for quotes, comma and space around a message."""


@dataclass(frozen=True)
class Part:
    """The messages of one request. The server stores an id once."""

    id: str
    messages: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Part({self.id!r})"


def count_lines(count: int) -> str:
    """Return a number of lines with its unit."""
    return f"{count} line{'' if count == 1 else 's'}"


def parts_of(batch_id: str, content: bytes) -> list[Part]:
    """Return the requests for a batch of complete lines: one, unless the lines are very long.

    Invalid UTF-8 becomes U+FFFD. A line that is too long for a request becomes several messages.
    """
    lines = [line.decode(errors="replace") for line in content.split(b"\n")[:-1]]
    if len(content) * LONGEST_CHARACTER + len(lines) * AROUND <= LARGEST_BODY:
        groups = [lines]
    else:
        groups = list(_grouped([piece for line in lines for piece in _pieces(line)]))
    ids = [batch_id, *(f"{batch_id}.{number}" for number in range(2, len(groups) + 1))]
    return [Part(id_, tuple(group)) for id_, group in zip(ids, groups, strict=True)]


def _pieces(line: str) -> list[str]:
    if _size(line) <= LARGEST_BODY:
        return [line]
    return [line[begin : begin + LONGEST_PIECE] for begin in range(0, len(line), LONGEST_PIECE)]


def _grouped(messages: list[str]) -> Iterator[list[str]]:
    group: list[str] = []
    left = LARGEST_BODY
    for message in messages:
        size = _size(message)
        if group and size > left:
            yield group
            group, left = [], LARGEST_BODY
        group.append(message)
        left -= size
    yield group


def _size(message: str) -> int:
    return len(json.dumps(message, ensure_ascii=False).encode()) + AROUND
