"""Deleting an account with everything that it has written, as a job that any process can resume.

The first step marks the user: login fails from then on, and the name stays taken. The last step removes the user, so
the mark remains as long as a step is missing. Every step is idempotent.
"""

from collections.abc import Awaitable, Callable

import structlog

from ..core.audit import Audit, AuditEvent, AuditKind
from ..core.background import repeat
from .api_tokens import ApiTokenStore
from .sessions import SessionStore
from .users import UserStore

INTERVAL = 60.0

Eraser = Callable[[bytes], Awaitable[None]]
"""Deletes the data of a user, given by id, in one feature; idempotent."""

log = structlog.get_logger(__name__)


class AccountDeletion:
    """Deletes accounts; other features add erasers for their data."""

    def __init__(self, users: UserStore, sessions: SessionStore, tokens: ApiTokenStore, audit: Audit) -> None:
        self._users = users
        self._audit = audit
        self._sessions = sessions
        self._tokens = tokens
        self._erasers: list[Eraser] = []

    def add(self, eraser: Eraser) -> None:
        """Add a feature's eraser."""
        self._erasers.append(eraser)

    async def delete(self, user_id: bytes) -> None:
        """Delete an account. Raises `Unavailable` if a step failed; a marked user is deleted later."""
        await self._users.mark_deleting(user_id)
        await self._finish(user_id)

    async def resume(self) -> None:
        """Finish all deletions that have begun."""
        for user_id in await self._users.being_deleted():
            await self._finish(user_id)
            log.info("interrupted account deletion completed", user_id=user_id.hex())

    async def watch(self) -> None:
        """Finish interrupted deletions, now and every minute, until cancelled."""
        await repeat(self.resume, every=INTERVAL)

    async def _finish(self, user_id: bytes) -> None:
        await self._sessions.end_all(user_id)
        await self._tokens.remove_all(user_id)
        for eraser in self._erasers:
            await eraser(user_id)
        # Recorded here, because another process may finish the deletion.
        if await self._users.remove(user_id):
            self._audit.record(AuditEvent(kind=AuditKind.ACCOUNT_DELETED, user_id=user_id))
