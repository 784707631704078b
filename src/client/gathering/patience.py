"""How long to wait after a failure, and what is said meanwhile."""

import random
import time
from collections.abc import Callable

from ..durations import in_words

SHORTEST, LONGEST = 0.25, 10.0
"""Seconds before the second try, and before each one after many."""
SILENCE = 1.0
"""Seconds for which nothing is said: a worker that is restarted is no news."""


class Patience:
    """Counts failures in a row. ``say`` is told why it takes so long, once for each reason, and when it is over."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failures = 0
        self._since = 0.0
        self._said = ""

    @property
    def is_tried(self) -> bool:
        """Whether the last try has failed."""
        return self._failures > 0

    def failed(self, reason: str, *, retry_after: float | None = None) -> float:
        """Return how many seconds to wait; many clients that wait do not come back at the same moment."""
        if not self._failures:
            self._since = time.monotonic()
        self._failures += 1
        if reason != self._said and time.monotonic() - self._since >= SILENCE:
            self._said = reason
            self._say(f"{reason.rstrip('.')}. Lines wait in the spool until that is over")
        pause = min(LONGEST, SHORTEST * 2.0 ** min(self._failures - 1, 10))
        # Within the half of it, and never before the server wants to be asked.
        return (retry_after or 0) + pause * random.uniform(0.5, 1)  # noqa: S311 (no secret)

    def succeeded(self) -> None:
        """Begin to count anew."""
        if self._said:
            self._say(f"delivering again, after {in_words(time.monotonic() - self._since)}")
        self._failures, self._said = 0, ""
