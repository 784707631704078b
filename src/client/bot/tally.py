"""Counts of requests, with their times and errors, and of checks, with their findings."""

from array import array
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from math import ceil


class Action(StrEnum):
    """A kind of request."""

    REGISTER = "register"
    SIGN_IN = "sign in"
    PUBLISH = "publish"
    REACT = "react"
    SHARE = "share"
    OPEN = "open"
    RECEIPT = "receipt"
    READ = "read a post"
    LIST = "list posts"
    BURN = "burn"
    DELETE = "delete account"


class Check(StrEnum):
    """A promise of the server."""

    OPENINGS = "secrets opened exactly once"
    RECEIPTS = "receipts that say so"
    REACTIONS = "reactions answered as they were made"
    COUNTS = "likes and dislikes counted right"
    POSTS = "posts as they were written"
    FEED = "posts in the feed"
    LISTS = "lists of one author's posts"


@dataclass(frozen=True)
class Row:
    """The requests of one kind. Times are in milliseconds, of successful requests; None without any."""

    action: str
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None


class Tally:
    """Counts every attempt of every request."""

    def __init__(self) -> None:
        self._seconds = {action: array("d") for action in Action}
        self.errors: Counter[tuple[Action, str]] = Counter()
        self.failed = 0
        """Requests that failed, including all retries."""
        self.refused = 0
        """Failed requests that the server rejected with a permanent error."""

    def answered(self, action: Action, seconds: float) -> None:
        """Count a successful attempt."""
        self._seconds[action].append(seconds)

    def went_wrong(self, action: Action, kind: str) -> None:
        """Count a failed attempt by its kind of error."""
        self.errors[action, kind] += 1

    def count(self, action: Action) -> int:
        """Return the number of successful attempts."""
        return len(self._seconds[action])

    def rows(self) -> list[Row]:
        """Return a row for each kind that occurred, and one for all."""
        every = array("d")
        for seconds in self._seconds.values():
            every.extend(seconds)
        rows = [self._row(action.value, self._seconds[action], self._errors_of(action)) for action in Action]
        return [*(row for row in rows if row.requests), self._row("all", every, self.errors.total())]

    def _errors_of(self, action: Action) -> int:
        return sum(count for (kind, _), count in self.errors.items() if kind is action)

    @staticmethod
    def _row(name: str, seconds: "array[float]", errors: int) -> Row:
        ordered = sorted(seconds)
        p50, p95, p99 = (percentile(ordered, share) for share in (50, 95, 99))
        return Row(name, len(ordered) + errors, errors, p50, p95, p99)


class Findings:
    """Counts checks that passed, failed or could not be made."""

    def __init__(self) -> None:
        self.right: Counter[Check] = Counter()
        self.unchecked: Counter[Check] = Counter()
        self.wrong: list[tuple[Check, str]] = []

    def judge(self, check: Check, *faults: str) -> None:
        """Count a check: passed if there are no faults. A fault contains no text, key or token."""
        self.wrong += [(check, fault) for fault in faults]
        self.right[check] += not faults

    def skip(self, check: Check) -> None:
        """Count a check that could not be made."""
        self.unchecked[check] += 1

    def wrong_of(self, check: Check) -> int:
        """Return the number of faults that a check found."""
        return sum(found is check for found, _ in self.wrong)


def percentile(ordered: list[float], share: int) -> float | None:
    """Return a percentile of ordered seconds by nearest rank, in milliseconds; None if there are none."""
    return round(1000 * ordered[ceil(share * len(ordered) / 100) - 1], 1) if ordered else None
