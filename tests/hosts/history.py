"""A recorded history: each operation of a client, with its times and outcome, as JSON Lines."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Kind(StrEnum):
    """The kinds of operations, each documented with its ``subject`` and ``value``. Only an ``ok`` has a value."""

    CREATE = "create"
    """Item; ``max_opens``."""
    OPEN = "open"
    """Item; ``opens_left``, ``right``: whether the text is that of the item, and ``held_until``.

    For any outcome, ``reader``: the name of the reader's key, if it has one.
    """
    RECEIVED = "received"
    """Item; ``reader`` for any outcome."""
    GUESS = "guess"
    """Item, opened with a wrong phrase; ``attempts_left``. A 403 counts as ``ok``."""
    BURN = "burn"
    """Item."""
    LOOK = "look"
    """Item; ``opens_left``."""
    RECEIPT = "receipt"
    """Item; ``state`` and ``opens_left``."""
    REACT = "react"
    """Post; ``user`` and ``reaction``: like, dislike or null. For any outcome."""
    TALLY = "tally"
    """Post, read at the end; ``user``, that user's ``mine``, and the counts ``likes`` and ``dislikes``."""
    LOGOUT = "logout"
    """Session."""
    USE = "use"
    """Session; its access token is used."""
    BATCH = "batch"
    """Sender; ``batch`` and ``messages`` for any outcome; and ``first_sequence``."""
    GATHERED = "gathered"
    """Sender, read at the end; ``messages``: pairs of sequence number and text."""
    FAULT = "fault"
    """Name of a fault; not an operation, but the interval from the fault until it was healed."""


class Outcome(StrEnum):
    """The outcome of an operation, as far as the client knows."""

    OK = "ok"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """No response, or a status of 500 or above."""


_SERVER_ERROR = 500


def outcome_of(status: int | None) -> Outcome:
    """Return the outcome for an HTTP status; None means no response."""
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
    """Whether it was sent after all faults had been healed, to read the final state."""

    @property
    def is_ok(self) -> bool:
        """Whether the operation was acknowledged."""
        return self.outcome is Outcome.OK


def write_history(path: Path, operations: Iterable[Operation]) -> None:
    """Write operations as JSON Lines."""
    with path.open("w") as file:
        file.writelines(json.dumps(asdict(operation)) + "\n" for operation in operations)


def read_history(path: Path) -> list[Operation]:
    """Read operations from JSON Lines."""
    with path.open() as file:
        fields = [json.loads(line) for line in file]
    return [Operation(**{**one, "kind": Kind(one["kind"]), "outcome": Outcome(one["outcome"])}) for one in fields]
