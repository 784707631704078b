"""The results of all requests of a run."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Tally:
    """Counts, and times in seconds. The names of counts contain no text from responses."""

    requests: int = 0
    unavailable: Counter[str] = field(default_factory=Counter)
    """Broken connections and responses of 500 or above, by request."""
    right: int = 0
    """Correct responses."""
    wrong: Counter[str] = field(default_factory=Counter)
    echo_seconds: list[float] = field(default_factory=list)
    malformed: int = 0
    malformed_kinds: set[str] = field(default_factory=set)
    not_refused: Counter[str] = field(default_factory=Counter)
    """Malformed requests that did not get a problem of 400 to 499, by kind."""
    oversized: int = 0
    oversized_passed: Counter[str] = field(default_factory=Counter)

    def check(self, name: str, *, is_right: bool) -> bool:
        """Count a response as right or wrong, and return whether it is right."""
        if is_right:
            self.right += 1
        else:
            self.wrong[name] += 1
        return is_right
