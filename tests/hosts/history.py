"""A recorded history: each operation of a client, with its times and its outcome, as a line of JSON."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """Operations. ``subject`` and ``value`` of each are given here; a value is there for an ``ok`` alone."""

    CREATE = "create"
    """Item; ``max_opens``."""
    OPEN = "open"
    """Item; ``opens_left``, and ``right``: whether the text is the one that was sealed."""
    GUESS = "guess"
    """Item, with a wrong phrase; ``attempts_left``. Its answer 403 counts as ``ok``."""
    BURN = "burn"
    """Item."""
    LOOK = "look"
    """Item; ``opens_left``."""
    RECEIPT = "receipt"
    """Item; ``state`` and ``opens_left``."""
    REACT = "react"
    """Post; ``user`` and ``reaction``: like, dislike or null, whatever the outcome."""
    TALLY = "tally"
    """Post, read at the end; ``user``, that user's ``mine``, and ``likes`` and ``dislikes`` of all."""
    LOGOUT = "logout"
    """Session."""
    USE = "use"
    """Session, whose access token is used."""
    BATCH = "batch"
    """Sender; ``batch`` and ``messages``, whatever the outcome; and ``first_sequence``."""
    GATHERED = "gathered"
    """Sender, read at the end; ``messages``: pairs of sequence number and text."""
    FAULT = "fault"
    """Name; no operation, but the time from the fault until it was healed."""


class Outcome(StrEnum):
    """What the client knows."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No answer, or one of a server that could not tell."""


_SERVER_ERROR = 500


def outcome_of(status: int | None) -> Outcome:
    """Return the outcome that an HTTP status tells; None where no answer came."""
    if status is None or status >= _SERVER_ERROR:
        return Outcome.UNKNOWN
    return Outcome.OK if status < 300 else Outcome.REFUSED


@dataclass(frozen=True)
class Operation:
    """An operation. ``begin`` and ``end`` are seconds of one monotonic clock."""

    kind: Kind
    subject: str
    host: str
    begin: float
    end: float
    outcome: Outcome
    status: int | None = None
    value: dict[str, Any] = field(default_factory=dict)
    final: bool = False
    """Whether it was sent after all faults had been healed, to find out what is there."""

    @property
    def is_ok(self) -> bool:
        """Whether it is acknowledged."""
        return self.outcome is Outcome.OK


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    """Write operations as lines of JSON."""
    with path.open("w") as file:
        file.writelines(json.dumps(asdict(operation)) + "\n" for operation in operations)


def read_history(path: Path) -> list[Operation]:
    """Read operations back."""
    with path.open() as file:
        fields = [json.loads(line) for line in file]
    return [Operation(**{**one, "kind": Kind(one["kind"]), "outcome": Outcome(one["outcome"])}) for one in fields]
