"""Sessions in MongoDB: what refresh tokens are good for. One that has ended leaves a mark for a while."""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pymongo import IndexModel

from ..core.clock import MILLISECOND, UNEXPIRED
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.crypto.signed_tokens import LEEWAY
from ..core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter
from .access_tokens import LIFE
from .refresh_tokens import RefreshToken

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
"""Sessions that one user may have; another one ends the oldest."""
MARK_LIFE = LIFE + LEEWAY + timedelta(minutes=2)
"""How long an ended session is remembered: longer than its last access token lives."""

_LIVE: Document = {"ended_at": None, **UNEXPIRED}

log = structlog.get_logger(__name__)


class SessionContent(Content):
    """What is sealed of a session: whose it is, and which refresh tokens are its own."""

    user_id: bytes
    family_hash: bytes


RESEALABLE = Resealable(COLLECTION, KIND, SessionContent)


@dataclass(frozen=True)
class Session:
    """A session that has not ended."""

    session_id: bytes
    user_id: bytes
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime


class SessionStore:
    """Every query on sessions.

    ``life`` is how long one lasts without a refresh, and ``damaged`` counts those that cannot be read.
    """

    def __init__(self, mongo: Mongo, ring: KeyRing, *, life: timedelta, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._life = life
        self._damaged = damaged

    async def start(self, user_id: bytes) -> tuple[Session, RefreshToken]:
        """Start a session and return it with its first refresh token."""
        token, now = RefreshToken.new(), self._clock.now()
        content = SessionContent(user_id=user_id, family_hash=token.family_hash)
        document = {
            "_id": token.session_id,
            "user_id": user_id,
            "secret_hash": token.secret_hash,
            "created_at": now,
            "refreshed_at": now,
            **self._lifetime(now),
            **self._sealer.seal(content, token.session_id),
        }
        with translate_mongo_errors():
            await self._collection.insert_one(document)
        return _session(document), token

    async def refresh(self, token: RefreshToken) -> tuple[Session, RefreshToken] | None:
        """Put a new token in the place of the present one.

        Returns None for a token that is not good; one that was good before ends the session.
        """
        with translate_mongo_errors():
            document = await self._collection.find_one({"_id": token.session_id, **_LIVE})
        content = self._opened(document) if document else None
        if document is None or content is None or not hmac.compare_digest(content.family_hash, token.family_hash):
            return None
        following, now = token.next(), self._clock.now()
        changes = {"secret_hash": following.secret_hash, "refreshed_at": now, **self._lifetime(now)}
        with translate_mongo_errors():
            result = await self._collection.update_one(
                {"_id": token.session_id, "secret_hash": token.secret_hash, **_LIVE}, {"$set": changes}
            )
        if not result.matched_count:
            if await self.end(content.user_id, token.session_id):
                log.warning("a refresh token was used twice: its session has ended", session_id=token.session_id.hex())
            return None
        return _session({**document, **changes}), following

    async def live(self, user_id: bytes) -> list[Session]:
        """Return a user's sessions, newest first."""
        with translate_mongo_errors():
            documents = await self._collection.find({"user_id": user_id, **_LIVE}).sort("created_at", -1).to_list(None)
        return [_session(document) for document in documents]

    async def end(self, user_id: bytes, session_id: bytes) -> bool:
        """End one session of a user; False where there is none."""
        return bool(await self._end({"_id": session_id, "user_id": user_id}))

    async def end_all(self, user_id: bytes, *, but: bytes | None = None) -> None:
        """End every session of a user, or all but one."""
        await self._end({"user_id": user_id, "_id": {"$ne": but}})

    async def end_surplus(self, user_id: bytes) -> None:
        """End the oldest sessions of a user who has more than `MOST_SESSIONS`."""
        query = {"user_id": user_id, **_LIVE}
        # By id as well: logins in parallel agree on which sessions are the oldest, and end no others.
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
        # By type as well, for the sparse index.
        query = {"ended_at": {"$type": "date"}, "$expr": {"$gt": ["$ended_at", since]}}
        with translate_mongo_errors():
            documents = await self._collection.find(query, {"_id": 1}).to_list(None)
        return [document["_id"] for document in documents]

    async def _end(self, query: Document) -> int:
        # MongoDB's clock, by which the workers ask for the marks.
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
            log.error("a session does not open: changed in the database, or its key is not in the ring")
            return None
        return content


def _session(document: Document) -> Session:
    return Session(
        session_id=document["_id"],
        user_id=document["user_id"],
        created_at=document["created_at"],
        refreshed_at=document["refreshed_at"],
        expires_at=document["expires_at"],
    )
