"""Records events without delaying the requests that cause them.

Recording appends to a queue in memory. Twice a second, the queue is encrypted and inserted with one command. If MongoDB
does not answer, the same documents are inserted again later: an event is stored once even if an earlier command has
succeeded after all.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta

import structlog
from pymongo.errors import BulkWriteError

from ..core.audit import AuditEvent
from ..core.background import repeat
from ..core.clock import MILLISECOND, milliseconds
from ..core.crypto.keys import KeyRing
from ..core.database.mongo import DUPLICATE, Document, Mongo, translate_mongo_errors
from ..core.metrics import NOTHING, Counter
from ..errors import Unavailable
from .records import COLLECTION, MOST_EVENTS, SPAN, AuditSealer, Entry

FLUSH_SECONDS = 0.5
MOST_QUEUED = 20_000
"""Events that a process keeps while MongoDB does not answer, in up to 10 MB of memory."""
RECORDS_AT_ONCE = 8

log = structlog.get_logger(__name__)


class AuditRecorder:
    """Stores events for ``life``, with the networks of clients only if ``with_addresses`` is set.

    ``dropped`` counts the events that were not stored.
    """

    def __init__(
        self, mongo: Mongo, ring: KeyRing, *, life: timedelta, with_addresses: bool, dropped: Counter = NOTHING
    ) -> None:
        self._mongo = mongo
        self._collection = mongo.collection(COLLECTION)
        self._sealer = AuditSealer(ring)
        self._life = life
        self._with_addresses = with_addresses
        self._dropped = dropped
        self._flushing = asyncio.Lock()
        self._queue: deque[tuple[float, AuditEvent]] = deque()
        self._last_at = 0
        self._unsent: Sequence[Document] = ()
        self._unsent_events: Sequence[int] = ()

    def record(self, event: AuditEvent) -> None:
        """Record an event soon; if the queue is full, the oldest event in it is dropped."""
        if len(self._queue) >= MOST_QUEUED:
            self._queue.popleft()
            self._dropped.inc()
        self._queue.append((time.monotonic(), event))

    async def flush(self) -> None:
        """Store all events. Raises `Unavailable`; the events then stay in memory."""
        async with self._flushing:
            while self._unsent or self._queue:
                if not self._unsent:
                    now, reading = milliseconds(self._mongo.clock.now()), time.monotonic()
                    groups = [one for one in (self._take(now, reading) for _ in range(RECORDS_AT_ONCE)) if one]
                    self._unsent = [self._sealer.seal(entries, self._life) for entries in groups]
                    self._unsent_events = [len(entries) for entries in groups]
                await self._insert()
                self._unsent = ()

    async def watch(self) -> None:
        """Store events twice a second until cancelled."""
        await repeat(self.flush, every=FLUSH_SECONDS)

    async def close(self) -> None:
        """Store the last events, or count them as dropped."""
        try:
            await self.flush()
        except Unavailable:
            pass  # logged where it happened
        finally:
            lost = len(self._queue) + (sum(self._unsent_events) if self._unsent else 0)
            if lost:
                self._dropped.inc(lost)
                log.error("audit events lost: MongoDB did not answer before the process stopped", events=lost)

    def _take(self, now: int, reading: float) -> list[Entry]:
        """Take the events of the next record from the queue, given MongoDB's time in milliseconds at a reading."""
        entries: list[Entry] = []
        while self._queue and len(entries) < MOST_EVENTS:
            recorded, event = self._queue[0]
            at = now - int((reading - recorded) * 1000)
            if 0 < self._last_at - at < SPAN // MILLISECOND:
                # Imprecise by rounding, or by a pause of the process between two readings: events stay in order.
                at = self._last_at
            if entries and at - entries[0].at > SPAN // MILLISECOND:
                break
            self._queue.popleft()
            self._last_at = at
            network = event.network if self._with_addresses else None
            entries.append(Entry(at, event.kind.value, event.user_id, event.by, event.item_id, event.method, network))
        return entries

    async def _insert(self) -> None:
        if self._mongo.unfit is not None:
            # The clock is wrong, or a key is missing.
            raise Unavailable
        with translate_mongo_errors():
            try:
                await self._collection.insert_many(self._unsent, ordered=False)
            except BulkWriteError as error:
                if error.details.get("writeConcernErrors"):
                    raise
                for failure in error.details["writeErrors"]:
                    # A duplicate is a record that an earlier command has stored.
                    if failure["code"] != DUPLICATE:
                        log.error("MongoDB rejected a document", code=failure.get("code"))
                        self._dropped.inc(self._unsent_events[failure["index"]])
