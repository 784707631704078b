"""What came of every request of a run."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts, and times in seconds. What is counted by name is named by us: nothing of an answer is in it."""

    requests: int = 0
    unavailable: Counter[str] = field(default_factory=Counter)
    """Broken connections and answers from 500 on, by request."""
    right: int = 0
    """Answers that were what they had to be."""
    wrong: Counter[str] = field(default_factory=Counter)
    echo_seconds: list[float] = field(default_factory=list)
    malformed: int = 0
    malformed_kinds: set[str] = field(default_factory=set)
    not_refused: Counter[str] = field(default_factory=Counter)
    """Malformed requests that were answered otherwise than with a problem of 400 to 499, by kind."""
    oversized: int = 0
    oversized_passed: Counter[str] = field(default_factory=Counter)

    def check(self, what: str, *, is_right: bool) -> bool:
        """Count an answer as right or wrong, and tell which."""
        if is_right:
            self.right += 1
        else:
            self.wrong[what] += 1
        return is_right
