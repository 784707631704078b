"""Which sessions have ended, as each worker knows it: asked of MongoDB twice a second, not on each request.

An access token is believed while its session is not among them. A worker whose knowledge is older than `STALE` asks
before it believes another token, and where MongoDB does not answer, it believes none.

Each time, a worker asks for all marks that live, not for those since the last one that it has seen: after a failover to
a primary whose clock is behind, new marks have earlier times than old ones.
"""

import asyncio
import time

from ..core.background import repeat
from ..core.metrics import Gauge
from ..errors import Unavailable
from .sessions import MARK_LIFE, SessionStore

INTERVAL = 0.5
STALE = 1.5


class EndedSessions:
    """The sessions that have ended and of which access tokens may live; ``known_at`` tells when they were asked for."""

    def __init__(self, sessions: SessionStore, known_at: Gauge) -> None:
        self._sessions = sessions
        self._known_at = known_at
        self._known: dict[bytes, float] = {}
        self._asked_at = self._failed_at = float("-inf")
        self._asking = asyncio.Lock()

    async def contain(self, session_id: bytes) -> bool:
        """Tell whether a session has ended. Raises `Unavailable` where that cannot be known."""
        if time.monotonic() - self._asked_at > STALE:
            await self._ask()
        return session_id in self._known

    def add(self, session_id: bytes) -> None:
        """Learn of an end that this worker has brought about itself."""
        self._known[session_id] = time.monotonic()

    async def watch(self) -> None:
        """Keep up with MongoDB until cancelled."""
        await repeat(self._keep_up, every=INTERVAL)

    async def _keep_up(self) -> None:
        if time.monotonic() - self._asked_at >= INTERVAL:
            await self._ask()

    async def _ask(self) -> None:
        began = time.monotonic()
        async with self._asking:
            if self._asked_at >= began:
                return  # somebody else asked meanwhile
            if self._failed_at >= began:
                # And got no answer. If all who waited asked again, one after the other, the last would wait for ever.
                raise Unavailable
            began, moment = time.monotonic(), time.time()
            try:
                ended = await self._sessions.ended()
            except Unavailable:
                self._failed_at = time.monotonic()
                raise
            for session_id in ended:
                self._known.setdefault(session_id, began)
            self._asked_at = began
            self._known_at.set(moment)
        self._forget(began - MARK_LIFE.total_seconds())

    def _forget(self, before: float) -> None:
        # In the order of learning, so the first one to keep ends the search.
        for session_id, learned_at in list(self._known.items()):
            if learned_at >= before:
                break
            del self._known[session_id]
