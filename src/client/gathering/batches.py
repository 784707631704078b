"""What of a batch goes into which request: never more than a server takes, and the same each time it is sent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

MOST_LINES = 1000
"""Lines of a batch; a server takes no more in a request."""
LARGEST_BODY = 1024 * 1024 - 8192
"""Bytes of the messages in a request; the rest of its 1 MiB is for the token and what is around."""
LONGEST_CHARACTER = 6
"""Bytes of a character in JSON: a control character is written as ``\\u001b``."""
LONGEST_PIECE = LARGEST_BODY // LONGEST_CHARACTER - 1
"""Characters of a message that fit, whatever they are."""
AROUND = 4
"""Bytes of quotes, comma and space around a message."""


@dataclass(frozen=True)
class Part:
    """The messages of one request, and the id under which they are stored once."""

    id: str
    messages: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Part({self.id!r})"


def count_lines(count: int) -> str:
    """Return a number of lines in words."""
    return f"{count} line{'' if count == 1 else 's'}"


def parts_of(batch_id: str, content: bytes) -> list[Part]:
    """Return the requests of a batch, whose content is whole lines: one, unless they are very long.

    Bytes that are no UTF-8 become U+FFFD. A line that no request has room for is cut into several messages.
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
