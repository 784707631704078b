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
    """Something that the server promises."""

    OPENINGS = "secrets opened exactly once"
    RECEIPTS = "receipts that say so"
    REACTIONS = "reactions answered as they were made"
    COUNTS = "likes and dislikes counted right"
    POSTS = "posts as they were written"
    FEED = "posts in the feed"
    LISTS = "lists of one author's posts"


@dataclass(frozen=True)
class Row:
    """The requests of one kind; times are in milliseconds, of those that were answered as they should be, or None."""

    action: str
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    p99: float | None


class Tally:
    """Counts every try of every request."""

    def __init__(self) -> None:
        self._seconds = {action: array("d") for action in Action}
        self.errors: Counter[tuple[Action, str]] = Counter()
        self.failed = 0
        """Requests that came to nothing, also after they were sent again."""
        self.refused = 0
        """Those among them that the server refused without a reason that passes."""

    def answered(self, action: Action, seconds: float) -> None:
        """Count a try that was answered as it should be."""
        self._seconds[action].append(seconds)

    def went_wrong(self, action: Action, kind: str) -> None:
        """Count a try that was not, by what happened."""
        self.errors[action, kind] += 1

    def count(self, action: Action) -> int:
        """Return how many were answered as they should be."""
        return len(self._seconds[action])

    def rows(self) -> list[Row]:
        """Return a row for each kind that there was, and one for all."""
        every = array("d")
        for seconds in self._seconds.values():
            every.extend(seconds)
        rows = [self._row(action.value, self._seconds[action], self._errors_of(action)) for action in Action]
        return [*(row for row in rows if row.requests), self._row("all", every, self.errors.total())]

    def _errors_of(self, action: Action) -> int:
        return sum(count for (one, _), count in self.errors.items() if one is action)

    @staticmethod
    def _row(name: str, seconds: "array[float]", errors: int) -> Row:
        ordered = sorted(seconds)
        p50, p95, p99 = (percentile(ordered, share) for share in (50, 95, 99))
        return Row(name, len(ordered) + errors, errors, p50, p95, p99)


class Findings:
    """Counts what was right, wrong, and could not be checked."""

    def __init__(self) -> None:
        self.right: Counter[Check] = Counter()
        self.unchecked: Counter[Check] = Counter()
        self.wrong: list[tuple[Check, str]] = []

    def judge(self, check: Check, *faults: str) -> None:
        """Note what is wrong, or that it is right where there are no faults. No fault holds a text, key or token."""
        self.wrong += [(check, fault) for fault in faults]
        self.right[check] += not faults

    def skip(self, check: Check) -> None:
        """Note that something could not be checked."""
        self.unchecked[check] += 1

    def wrong_of(self, check: Check) -> int:
        """Return how many faults a check has found."""
        return sum(one is check for one, _ in self.wrong)


def percentile(ordered: list[float], share: int) -> float | None:
    """Return a percentile of what is in order, by nearest rank, in thousandths; None where there is nothing."""
    return round(1000 * ordered[ceil(share * len(ordered) / 100) - 1], 1) if ordered else None
