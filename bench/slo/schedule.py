"""How often what is done, and the doing of it at that pace whether or not the service keeps up."""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rates:
    """How often each scenario and each probe begins, per second, and how many users there are."""

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
    """Of each of the two ways."""

    @property
    def requests(self) -> float:
        """Return about how many requests a second all of it comes to."""
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
        """Return about how many of them are for secrets, messages and receipts, of which there may be fewer."""
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
    """Begin something so often until a moment of the monotonic clock, and wait for what was begun.

    Each begins when it is its turn, however long the ones before it take: a service that gets slower is not spared.
    """
    interval = 1 / per_second
    turn = time.monotonic() + random.random() * min(interval, 1.0)  # noqa: S311 (so that not all begin together)
    async with asyncio.TaskGroup() as tasks:
        while turn < until:
            await asyncio.sleep(turn - time.monotonic())
            tasks.create_task(begin())
            turn += interval
