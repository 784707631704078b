"""Whether the driver knows a primary. While it knows none, requests fail fast."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import structlog
from pymongo.errors import PyMongoError

from ..background import background_tasks

LONGEST_WAIT = 0.9
"""Seconds without a primary after which requests are refused. A broken connection takes milliseconds to recover."""
POLL_SECONDS = 0.02
PING_PAUSE_SECONDS = 0.5

log = structlog.get_logger(__name__)


class PrimaryWatch:
    """Watches the driver's view of the deployment while it contains no server that accepts writes.

    Bound to the event loop of its client. The driver's own listeners are called up to 1 second late.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._description: Any = None
        self._is_known = False
        self._lost_at = 0.0
        self._watching: asyncio.Task[None] | None = None

    def is_known(self) -> bool:
        """Tell whether the driver knows a server that accepts writes."""
        # A change creates a new description; comparing two is cheaper than searching one.
        description = self._client.topology_description
        if description is not self._description:
            self._description, self._is_known = description, description.has_writable_server()
        return self._is_known

    async def wait(self) -> bool:
        """Wait for a primary if none is known, and tell whether one is known.

        The wait ends `LONGEST_WAIT` seconds after the first call that found no primary; later calls do not wait.
        """
        if self.is_known():
            return True
        if self._watching is None or self._watching.done():
            self._lost_at = time.monotonic()
            self._watching = asyncio.create_task(self._watch())
        left = self._lost_at + LONGEST_WAIT - time.monotonic()
        if left > 0:
            await asyncio.wait({self._watching}, timeout=left)
        return self.is_known()

    async def close(self) -> None:
        """Stop watching."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        """Return when a primary is known."""
        is_logged = False
        async with background_tasks(self._ping()):
            while not self.is_known():
                if not is_logged and time.monotonic() - self._lost_at > LONGEST_WAIT:
                    log.warning("no primary: rejecting requests")
                    is_logged = True
                await asyncio.sleep(POLL_SECONDS)
            if is_logged:
                log.info("primary found again", seconds=round(time.monotonic() - self._lost_at, 1))

    async def _ping(self) -> None:
        """Keep a command waiting for a primary: the driver then looks for one twice a second, not per heartbeat."""
        while True:
            with suppress(PyMongoError):
                await self._client.admin.command("ping")
            await asyncio.sleep(PING_PAUSE_SECONDS)
