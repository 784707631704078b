"""Deleting an account with all that it wrote: a job that any process finishes if the one that began it could not.

The first step marks the user: from then on nobody signs in, and the name stays taken. The last one removes the user, so
as long as a step is missing the mark is there to be found. Each step may be done twice.
"""

from collections.abc import Awaitable, Callable

import structlog

from ..core.background import repeat
from .api_tokens import ApiTokenStore
from .sessions import SessionStore
from .users import UserStore

INTERVAL = 60.0

Eraser = Callable[[bytes], Awaitable[None]]
"""Deletes what a user, given by id, wrote in one feature; may be called again for the same user."""

log = structlog.get_logger(__name__)


class AccountDeletion:
    """Deletes accounts; other features add what deletes their part."""

    def __init__(self, users: UserStore, sessions: SessionStore, tokens: ApiTokenStore) -> None:
        self._users = users
        self._sessions = sessions
        self._tokens = tokens
        self._erasers: list[Eraser] = []

    def add(self, eraser: Eraser) -> None:
        """Have a feature's part deleted along."""
        self._erasers.append(eraser)

    async def delete(self, user_id: bytes) -> None:
        """Delete an account. Raises `Unavailable` where a step failed; once it is marked, it will be finished later."""
        await self._users.mark_deleting(user_id)
        await self._finish(user_id)

    async def resume(self) -> None:
        """Finish every deletion that has begun."""
        for user_id in await self._users.being_deleted():
            await self._finish(user_id)
            log.info("a deletion that had been interrupted is finished", user_id=user_id.hex())

    async def watch(self) -> None:
        """Finish what was interrupted, now and every minute, until cancelled."""
        await repeat(self.resume, every=INTERVAL)

    async def _finish(self, user_id: bytes) -> None:
        await self._sessions.end_all(user_id)
        await self._tokens.remove_all(user_id)
        for eraser in self._erasers:
            await eraser(user_id)
        await self._users.remove(user_id)
