"""Invitations: operators create them for people who may register, each for a role and a number of uses.

An invitation is ``si_`` followed by 32 random bytes in URL-safe base64: 46 characters. Only its SHA-256 is stored; the
bytes are random, so no slow hash is needed. Role, creator, uses and expiry are sealed together with the hash, so write
access to the database is not enough to create an invitation or to widen one. After its last use it is deleted.
"""

import base64
import hmac
import random
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

import structlog
from pymongo import IndexModel, ReturnDocument

from ..core.clock import UNEXPIRED
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.mongo import Document, Indexes, Mongo, insert_unique, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter

COLLECTION = "invitations"
KIND = "invitation"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("hash", name="hash", unique=True),
        # Each slot holds one invitation, so concurrent requests never create more than there are slots.
        IndexModel("slot", name="slot", unique=True),
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
    ]
}
PREFIX = "si_"
ID_BYTES = 16
RANDOM_BYTES = 32
MOST_INVITATIONS = 1000
MOST_USES = 100
LONGEST_LIFE = timedelta(days=30)
DEFAULT_LIFE = timedelta(days=7)

log = structlog.get_logger(__name__)


def new_invitation() -> str:
    """Return the text of a new invitation."""
    return PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(RANDOM_BYTES)).rstrip(b"=").decode()


def hash_invitation(text: str) -> bytes:
    """Return the SHA-256 of an invitation, as it is stored."""
    return sha256(b"sealpost/v1/invitation" + text.encode(errors="surrogatepass")).digest()


class InvitationContent(Content):
    """The sealed part of an invitation. ``created_by`` is None if it was created on the command line."""

    hash: bytes
    operator: bool
    created_by: bytes | None
    uses: int
    expires_at: datetime


RESEALABLE = Resealable(COLLECTION, KIND, InvitationContent)


@dataclass(frozen=True)
class Invitation:
    """An invitation that has neither expired nor been used up."""

    invitation_id: bytes
    content: InvitationContent
    created_at: datetime
    uses_left: int


class InvitationUsed(Exception):
    """The invitation has expired, been deleted or been used up since it was read."""


class InvitationStore:
    """All queries on invitations; ``damaged`` counts the invitations that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._damaged = damaged

    async def add(self, content: InvitationContent) -> Invitation | None:
        """Store a new invitation; None if there are `MOST_INVITATIONS` already."""
        while slots := await self._free_slots():
            invitation_id = secrets.token_bytes(ID_BYTES)
            document = {
                "_id": invitation_id,
                "hash": content.hash,
                # A random slot, so that concurrent requests seldom collide.
                "slot": random.choice(slots),  # noqa: S311 (no secret)
                "created_at": self._clock.now(),
                "expires_at": content.expires_at,
                "uses_left": content.uses,
                **self._sealer.seal(content, invitation_id),
            }
            if await insert_unique(self._collection, document):
                return Invitation(invitation_id, content, document["created_at"], content.uses)
        return None

    async def find(self, text: str) -> Invitation | None:
        """Return the invitation with this text; None if there is none that can be used."""
        with translate_mongo_errors():
            document = await self._collection.find_one({"hash": hash_invitation(text), **UNEXPIRED})
        return self._invitation(document) if document else None

    async def use(self, invitation: Invitation, session: Any) -> None:
        """Count a use in the caller's transaction, and delete the invitation after its last one.

        Raises `InvitationUsed` if none is left.
        """
        document = await self._collection.find_one_and_update(
            {"_id": invitation.invitation_id, "uses_left": {"$gt": 0}, **UNEXPIRED},
            {"$inc": {"uses_left": -1}},
            {"uses_left": 1},
            return_document=ReturnDocument.AFTER,
            session=session,
        )
        if document is None:
            raise InvitationUsed
        if document["uses_left"] == 0:
            await self._collection.delete_one({"_id": invitation.invitation_id}, session=session)

    async def all(self) -> list[Invitation]:
        """Return all invitations, newest first."""
        with translate_mongo_errors():
            documents = await self._collection.find(UNEXPIRED).sort([("created_at", -1), ("_id", 1)]).to_list(None)
        invitations = (self._invitation(document) for document in documents)
        return [invitation for invitation in invitations if invitation]

    async def remove(self, invitation_id: bytes) -> bool:
        """Delete an invitation; False if there is none."""
        with translate_mongo_errors():
            result = await self._collection.delete_one({"_id": invitation_id, **UNEXPIRED})
        return bool(result.deleted_count)

    async def remove_of(self, user_id: bytes) -> None:
        """Delete the invitations that a user has created."""
        made = [one.invitation_id for one in await self.all() if one.content.created_by == user_id]
        if made:
            with translate_mongo_errors():
                await self._collection.delete_many({"_id": {"$in": made}})

    async def _free_slots(self) -> list[int]:
        """Return the free slots; expired invitations are deleted first, which frees theirs."""
        with translate_mongo_errors():
            await self._collection.delete_many({"$expr": {"$lte": ["$expires_at", "$$NOW"]}})
            documents = await self._collection.find({}, {"slot": 1}).to_list(None)
        taken = {document["slot"] for document in documents}
        return [slot for slot in range(MOST_INVITATIONS) if slot not in taken]

    def _invitation(self, document: Document) -> Invitation | None:
        try:
            content = self._sealer.open(InvitationContent, document)
        except Unsealable:
            content = None
        if content is None or not hmac.compare_digest(content.hash, document["hash"]):
            self._damaged.inc()
            log.error("invitation cannot be decrypted: modified in the database, or its key is not in the key ring")
            return None
        # Both are stored outside the envelope as well, where they may have been raised.
        uses_left = min(document["uses_left"], content.uses)
        if uses_left <= 0 or content.expires_at <= self._clock.now():
            return None
        return Invitation(document["_id"], content, document["created_at"], uses_left)
