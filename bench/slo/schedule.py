"""The rates of scenarios and probes, and an open-loop scheduler that keeps them even if the service is slow."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rates:
    """Starts per second of each scenario and probe, and the number of users."""

    users: int
    echo: float
    sign_in: float
    use_token: float
    refresh: float
    secret: float
    phrase: float
    message: float
    post: float
    hello: float
    malformed: float
    oversized: float
    revocation_tries: float
    """For each of the 2 methods of revocation."""

    @property
    def requests(self) -> float:
        """Approximate total of requests per second."""
        alone = self.echo + self.use_token + self.refresh + self.hello + self.malformed + self.oversized
        return (
            alone
            + 3 * self.sign_in
            + 5 * self.secret
            + 4 * self.phrase
            + 5 * self.message
            + (5 + 1.5 * self.users) * self.post
            + 2 * self.revocation_tries
        )

    @property
    def openings(self) -> float:
        """Approximate requests per second for secrets, messages and receipts, which have a lower limit."""
        return 4 * self.secret + 3 * self.phrase + 4 * self.message


OWN_STACK = Rates(
    users=8,
    echo=80,
    sign_in=0.8,
    use_token=15,
    refresh=1,
    secret=8,
    phrase=0.8,
    message=4,
    post=0.8,
    hello=2,
    malformed=20,
    oversized=2,
    revocation_tries=20,
)
UNDER_LIMITS = Rates(
    users=3,
    echo=14,
    sign_in=0.3,
    use_token=2,
    refresh=0.1,
    secret=0.4,
    phrase=0.1,
    message=0.3,
    post=0.2,
    hello=0.5,
    malformed=3,
    oversized=0.3,
    revocation_tries=5,
)
"""Under the default limits of 50 requests and 5 openings a second."""


async def repeat(per_second: float, until: float, begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Start a coroutine ``per_second`` times a second until a moment of the monotonic clock, and wait for all.

    Each starts on schedule, however long the earlier ones take: a slow service gets no relief.
    """
    interval = 1 / per_second
    turn = time.monotonic() + random.random() * min(interval, 1.0)  # noqa: S311 (so that not all start together)
    async with asyncio.TaskGroup() as tasks:
        while turn < until:
            await asyncio.sleep(turn - time.monotonic())
            tasks.create_task(begin())
            turn += interval
