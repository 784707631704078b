"""Sessions in MongoDB, and how each worker learns which of them have ended.

A session that ends is kept, marked, until its last access token has expired. Each worker polls for these marks twice a
second instead of on each request, and rejects access tokens of the sessions that it finds. If its knowledge is older
than `REVOCATION_STALE`, it polls before it accepts another token, and accepts none while MongoDB does not reply.

Each poll fetches all live marks, not only those since the last one: after a failover to a primary whose clock is
behind, new marks have earlier times than old ones.
"""

import asyncio
import hmac
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pymongo import IndexModel, ReturnDocument

from ..core.audit import NOT_RECORDED, Audit, AuditEvent, AuditKind
from ..core.background import repeat
from ..core.clock import MILLISECOND, UNEXPIRED
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.crypto.signed_tokens import LEEWAY
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter, Gauge
from ..errors import Unavailable
from .access_tokens import LIFE, RefreshToken

COLLECTION = "sessions"
KIND = "session"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("delete_at", name="delete_at", expireAfterSeconds=0),
        IndexModel([("user_id", 1), ("created_at", -1)], name="user_id"),
        IndexModel("ended_at", name="ended_at", sparse=True),
    ]
}
MOST_SESSIONS = 100
"""Sessions that one user may have; a further login ends the oldest."""
MARK_LIFE = LIFE + LEEWAY + timedelta(minutes=2)
"""How long an ended session is kept: longer than its last access token lives."""
GRACE = timedelta(seconds=10)
"""How long after a repeatable refresh the same refresh token, now replaced, gets the same answer again."""
REVOCATION_INTERVAL = 0.5
"""Seconds between two queries of a worker for ended sessions."""
REVOCATION_STALE = 1.5
"""Age in seconds from which a worker no longer trusts the ended sessions that it knows."""

_LIVE: Document = {"ended_at": None, **UNEXPIRED}

log = structlog.get_logger(__name__)


class SessionContent(Content):
    """The sealed part of a session: its user, and the hash that its refresh tokens share."""

    user_id: bytes
    family_hash: bytes


RESEALABLE = Resealable(COLLECTION, KIND, SessionContent)


@dataclass(frozen=True)
class Session:
    """A session that has not ended; ``signed_in_at`` is that of the session that issued its sign-in code, if any."""

    session_id: bytes
    user_id: bytes
    created_at: datetime
    signed_in_at: datetime
    refreshed_at: datetime
    expires_at: datetime


class SessionStore:
    """All queries on sessions.

    A session ends ``life`` after its last refresh. ``damaged`` counts the sessions that cannot be read, and ``audit``
    records that a used token has ended one.
    """

    def __init__(
        self,
        mongo: Mongo,
        ring: KeyRing,
        *,
        life: timedelta,
        damaged: Counter = NOTHING,
        audit: Audit = NOT_RECORDED,
    ) -> None:
        self._audit = audit
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._ring = ring
        self._sealer = RecordSealer(ring, KIND)
        self._life = life
        self._damaged = damaged

    async def start(self, user_id: bytes, signed_in_at: datetime | None = None) -> tuple[Session, RefreshToken]:
        """Start a session and return it with its first refresh token; the user signs in now unless a time is given."""
        token, now = RefreshToken.new(), self._clock.now()
        content = SessionContent(user_id=user_id, family_hash=token.family_hash)
        document = {
            "_id": token.session_id,
            "user_id": user_id,
            "secret_hash": token.secret_hash,
            "created_at": now,
            "refreshed_at": now,
            **({"signed_in_at": signed_in_at} if signed_in_at else {}),
            **self._lifetime(now),
            **self._sealer.seal(content, token.session_id),
        }
        with translate_mongo_errors():
            await self._collection.insert_one(document)
        return _session(document), token

    async def refresh(self, token: RefreshToken, *, repeatable: bool = False) -> tuple[Session, RefreshToken] | None:
        """Replace the current token by a new one.

        Returns None for a token that is not the current one. A token that was used before ends the session, except for
        the latest one within `GRACE` of a ``repeatable`` refresh: it gets the current token again.
        """
        found = await self._find(token)
        if found is None:
            return None
        document, content = found
        successors = [token.derive_next(key) for key in self._ring.subkeys(Purpose.REFRESH_TOKEN)]
        following, now = successors[0] if repeatable else token.next(), self._clock.now()
        changes = {"secret_hash": following.secret_hash, "refreshed_at": now, **self._lifetime(now)}
        with translate_mongo_errors():
            result = await self._collection.update_one(
                {"_id": token.session_id, "secret_hash": token.secret_hash, **_LIVE}, {"$set": changes}
            )
        if not result.matched_count:
            if repeatable and (repeated := await self._repeat(token, successors)):
                return repeated
            if await self.end(content.user_id, token.session_id):
                log.warning("refresh token reused: session ended", session_id=token.session_id.hex())
                self._audit.record(AuditEvent(kind=AuditKind.SIGNED_OUT, user_id=content.user_id))
            return None
        return _session({**document, **changes}), following

    async def find(self, token: RefreshToken) -> Session | None:
        """Return the session of a refresh token, current or used; None if there is none (any more)."""
        found = await self._find(token)
        return _session(found[0]) if found else None

    async def has_signed_in_within(self, user_id: bytes, session_id: bytes, span: timedelta) -> bool:
        """Tell whether the user of a session signed in at most this long ago, by MongoDB's clock."""
        signed_in_at = {"$ifNull": ["$signed_in_at", "$created_at"]}
        is_young = {"$gte": [signed_in_at, {"$subtract": ["$$NOW", span // MILLISECOND]}]}
        query = {"_id": session_id, "user_id": user_id, "ended_at": None, "$expr": is_young}
        with translate_mongo_errors():
            return await self._collection.find_one(query, {"_id": 1}) is not None

    async def live(self, user_id: bytes) -> list[Session]:
        """Return a user's sessions, newest first."""
        with translate_mongo_errors():
            documents = await self._collection.find({"user_id": user_id, **_LIVE}).sort("created_at", -1).to_list(None)
        return [_session(document) for document in documents]

    async def end(self, user_id: bytes, session_id: bytes) -> bool:
        """End one session of a user; False if there is none."""
        return bool(await self._end({"_id": session_id, "user_id": user_id}))

    async def end_all(self, user_id: bytes, *, but: bytes | None = None) -> None:
        """End every session of a user, except for one if it is given."""
        await self._end({"user_id": user_id, "_id": {"$ne": but}})

    async def end_surplus(self, user_id: bytes) -> None:
        """End the oldest sessions of a user who has more than `MOST_SESSIONS`."""
        query = {"user_id": user_id, **_LIVE}
        # Sorted by id as well, so that concurrent logins agree on the oldest sessions and end no others.
        newest_first = [("created_at", -1), ("_id", -1)]
        with translate_mongo_errors():
            surplus = (
                await self._collection.find(query, {"_id": 1}).sort(newest_first).skip(MOST_SESSIONS).to_list(None)
            )
        if surplus:
            await self._end({"_id": {"$in": [document["_id"] for document in surplus]}})

    async def ended(self) -> list[bytes]:
        """Return the ids of all sessions that ended within `MARK_LIFE`, by MongoDB's clock."""
        since = {"$subtract": ["$$NOW", MARK_LIFE // MILLISECOND]}
        # The condition on the type lets MongoDB use the sparse index.
        query = {"ended_at": {"$type": "date"}, "$expr": {"$gt": ["$ended_at", since]}}
        with translate_mongo_errors():
            documents = await self._collection.find(query, {"_id": 1}).to_list(None)
        return [document["_id"] for document in documents]

    async def _find(self, token: RefreshToken) -> tuple[Document, SessionContent] | None:
        with translate_mongo_errors():
            document = await self._collection.find_one({"_id": token.session_id, **_LIVE})
        content = self._opened(document) if document else None
        if document is None or content is None or not hmac.compare_digest(content.family_hash, token.family_hash):
            return None
        return document, content

    async def _repeat(self, token: RefreshToken, successors: list[RefreshToken]) -> tuple[Session, RefreshToken] | None:
        """Return the session if its current token is one of these and has replaced ``token`` within `GRACE`."""
        by_hash = {successor.secret_hash: successor for successor in successors}
        is_recent = {"$gte": ["$refreshed_at", {"$subtract": ["$$NOW", GRACE // MILLISECOND]}]}
        is_live = {"$gt": ["$expires_at", "$$NOW"]}
        query = {
            "_id": token.session_id,
            "secret_hash": {"$in": list(by_hash)},
            "ended_at": None,
            "$expr": {"$and": [is_recent, is_live]},
        }
        with translate_mongo_errors():
            # A write that changes nothing: a read would not see a refresh that a majority has not acknowledged yet.
            document = await self._collection.find_one_and_update(
                query, [{"$set": {"secret_hash": "$secret_hash"}}], return_document=ReturnDocument.AFTER
            )
        return (_session(document), by_hash[document["secret_hash"]]) if document else None

    async def _end(self, query: Document) -> int:
        # By MongoDB's clock, as in `ended`.
        mark: Any = {"ended_at": "$$NOW", "delete_at": {"$add": ["$$NOW", MARK_LIFE // MILLISECOND]}}
        with translate_mongo_errors():
            result = await self._collection.update_many({**query, "ended_at": None}, [{"$set": mark}])
        return int(result.modified_count)

    def _lifetime(self, now: datetime) -> Document:
        return {"expires_at": now + self._life, "delete_at": now + self._life}

    def _opened(self, document: Document) -> SessionContent | None:
        try:
            content = self._sealer.open(SessionContent, document)
        except Unsealable:
            content = None
        if content is None or content.user_id != document["user_id"]:
            self._damaged.inc()
            log.error("session cannot be decrypted: modified in the database, or its key is not in the key ring")
            return None
        return content


class EndedSessions:
    """The ended sessions whose access tokens may still be valid; ``known_at`` shows the time of the last poll."""

    def __init__(self, sessions: SessionStore, known_at: Gauge) -> None:
        self._sessions = sessions
        self._known_at = known_at
        self._known: dict[bytes, float] = {}
        self._polled_at = self._failed_at = float("-inf")
        self._polling = asyncio.Lock()

    async def contain(self, session_id: bytes) -> bool:
        """Tell whether a session has ended. Raises `Unavailable` if the database cannot tell."""
        if time.monotonic() - self._polled_at > REVOCATION_STALE:
            await self._poll()
        return session_id in self._known

    def add(self, session_id: bytes) -> None:
        """Record a session that this worker has ended itself."""
        self._known[session_id] = time.monotonic()

    async def watch(self) -> None:
        """Poll until cancelled."""
        await repeat(self._poll_if_due, every=REVOCATION_INTERVAL)

    async def _poll_if_due(self) -> None:
        if time.monotonic() - self._polled_at >= REVOCATION_INTERVAL:
            await self._poll()

    async def _poll(self) -> None:
        began = time.monotonic()
        async with self._polling:
            if self._polled_at >= began:
                return  # another request has polled since
            if self._failed_at >= began:
                # Another poll has failed since. If all waiting requests retried in turn, the last would never finish.
                raise Unavailable
            began, moment = time.monotonic(), time.time()
            try:
                ended = await self._sessions.ended()
            except Unavailable:
                self._failed_at = time.monotonic()
                raise
            for session_id in ended:
                self._known.setdefault(session_id, began)
            self._polled_at = began
            self._known_at.set(moment)
        self._forget(began - MARK_LIFE.total_seconds())

    def _forget(self, before: float) -> None:
        # In insertion order, which is by time: the first entry to keep ends the loop.
        for session_id, learned_at in list(self._known.items()):
            if learned_at >= before:
                break
            del self._known[session_id]


def _session(document: Document) -> Session:
    return Session(
        session_id=document["_id"],
        user_id=document["user_id"],
        created_at=document["created_at"],
        signed_in_at=document.get("signed_in_at") or document["created_at"],
        refreshed_at=document["refreshed_at"],
        expires_at=document["expires_at"],
    )
