"""What the checks have found."""

from collections import Counter
from enum import StrEnum


class Check(StrEnum):
    """Something that the server promises."""

    OPENINGS = "secrets opened exactly once"
    RECEIPTS = "receipts that say so"
    REACTIONS = "reactions answered as they were made"
    COUNTS = "likes and dislikes counted right"
    POSTS = "posts as they were written"
    FEED = "posts in the feed"
    LISTS = "lists of one author's posts"


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
