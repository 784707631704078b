"""How long a transfer is retried without progress."""

import time
from collections.abc import Awaitable, Callable

from ..errors import ClientError, OutcomeUnknown, Unreachable
from ..responses import Response

PATIENCE_SECONDS = 120.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 10.0
LONGEST_WAIT = 30
"""Longest `Retry-After`, in seconds, after which a transfer is continued."""
PASSING = frozenset({429, 500, 502, 503, 504})
"""Statuses after which the same request may succeed."""


class Patience:
    """Waits between attempts. ``notify`` is called before each retry."""

    def __init__(self, notify: Callable[[str], None]) -> None:
        self._notify = notify
        self.renew()

    def renew(self) -> None:
        """Begin anew, after progress."""
        self._pause = FIRST_PAUSE
        self._deadline: float | None = None

    async def wait(self, failure: ClientError, answer: Response | None = None) -> None:
        """Wait before the next attempt. Raises ``failure`` if that is too long."""
        from asyncio import sleep  # noqa: PLC0415 (slow to import)

        asked = answer.retry_after if answer else None
        pause = self._pause if asked is None else asked
        now = time.monotonic()
        self._deadline = self._deadline or now + PATIENCE_SECONDS
        if pause > LONGEST_WAIT or now + pause > self._deadline:
            raise failure
        self._notify(f"{str(failure).rstrip('.')}. Continuing in {pause:g} s")
        await sleep(pause)
        self._pause = min(self._pause * 2, LONGEST_PAUSE)


async def attempt(request: Awaitable[Response]) -> tuple[Response | None, ClientError | None]:
    """Return the response to a part of a transfer, if any, and the failure, if any, after which it may continue.

    Raises the other failures of the request.
    """
    try:
        answer = await request
    except Unreachable as error:
        if not may_pass(error):
            raise
        return None, error
    return answer, None if answer.ok else answer.error()


def may_pass(error: Unreachable) -> bool:
    """Return whether a transfer may continue after a failure without a response."""
    return error.passing or isinstance(error, OutcomeUnknown)
