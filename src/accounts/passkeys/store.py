"""Passkeys in MongoDB: all but the counter is sealed, and a blind index of the credential's id finds them."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pymongo import IndexModel

from ...core.crypto.blind_index import BlindIndex
from ...core.crypto.keys import KeyRing
from ...core.crypto.records import Content, RecordSealer
from ...core.crypto.sealing import Unsealable, encode
from ...core.database.mongo import Document, Indexes, Mongo, insert_unique, translate_mongo_errors
from ...core.database.resealing import Resealable
from ...core.metrics import NOTHING, Counter

COLLECTION = "passkeys"
KIND = "passkey"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("credential_index", name="credential_index", unique=True),
        # Each slot of a user holds one passkey, so concurrent requests never create more passkeys than there are slots.
        IndexModel([("user_id", 1), ("slot", 1)], name="slot", unique=True),
    ]
}
ID_BYTES = 16

log = structlog.get_logger(__name__)


class PasskeyContent(Content):
    """The sealed part of a passkey. ``public_key`` is in the format of COSE (RFC 9052)."""

    user_id: bytes
    credential_id: bytes
    public_key: bytes
    name: str
    transports: tuple[str, ...]


class CredentialIds:
    """The blind index of the ids that authenticators give to passkeys."""

    def __init__(self, ring: KeyRing) -> None:
        self._index = BlindIndex(ring, "passkey")

    def index(self, credential_id: bytes) -> list[bytes]:
        """Return the index of an id under each key of the ring."""
        return list(self._index.of(encode(credential_id)))


RESEALABLE = Resealable(
    COLLECTION,
    KIND,
    PasskeyContent,
    lambda ring, content: {"credential_index": CredentialIds(ring).index(content.credential_id)},
)


@dataclass(frozen=True)
class Passkey:
    """A passkey; ``envelope`` identifies this version of the sealed content."""

    passkey_id: bytes
    content: PasskeyContent
    created_at: datetime
    last_used_at: datetime | None
    envelope: bytes


class PasskeyStore:
    """All queries on passkeys; ``damaged`` counts those that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._ids = CredentialIds(ring)
        self._damaged = damaged

    async def add(self, content: PasskeyContent, sign_count: int, slot: int) -> Passkey | None:
        """Store a new passkey; None if the slot or the credential's id is taken."""
        passkey_id = secrets.token_bytes(ID_BYTES)
        document = {
            "_id": passkey_id,
            "user_id": content.user_id,
            "slot": slot,
            "credential_index": self._ids.index(content.credential_id),
            "sign_count": sign_count,
            "created_at": self._clock.now(),
            **self._sealer.seal(content, passkey_id),
        }
        return self._passkey(document) if await insert_unique(self._collection, document) else None

    async def free_slots(self, user_id: bytes, most: int) -> list[int]:
        """Return the free slots of a user who may have ``most`` passkeys."""
        with translate_mongo_errors():
            documents = await self._collection.find({"user_id": user_id}, {"slot": 1}).to_list(None)
        taken = {document["slot"] for document in documents}
        return [slot for slot in range(most) if slot not in taken]

    async def find(self, credential_id: bytes) -> Passkey | None:
        """Return the passkey with this credential's id; None if there is none that can be read."""
        query = {"credential_index": {"$in": self._ids.index(credential_id)}}
        with translate_mongo_errors():
            document = await self._collection.find_one(query)
        passkey = self._passkey(document) if document else None
        return passkey if passkey and passkey.content.credential_id == credential_id else None

    async def of_user(self, user_id: bytes) -> list[Passkey]:
        """Return a user's passkeys, newest first."""
        with translate_mongo_errors():
            documents = await self._collection.find({"user_id": user_id}).sort("created_at", -1).to_list(None)
        return [passkey for document in documents if (passkey := self._passkey(document))]

    async def has_any(self, user_id: bytes, session: Any = None) -> bool:
        """Tell whether a user has a passkey, within the transaction of a database session if there is one."""
        with translate_mongo_errors():
            documents = await self._collection.find({"user_id": user_id}, session=session).to_list(None)
        return any(self._passkey(document) for document in documents)

    async def note_use(self, passkey: Passkey, sign_count: int) -> bool:
        """Record a use with the authenticator's counter; False if the counter has not increased.

        Authenticators without a counter always send 0.
        """
        is_new: Document = {"$lt": sign_count} if sign_count else {"$eq": 0}
        changes = {"sign_count": sign_count, "last_used_at": self._clock.now()}
        with translate_mongo_errors():
            result = await self._collection.update_one(
                {"_id": passkey.passkey_id, "sign_count": is_new}, {"$set": changes}
            )
        return bool(result.matched_count)

    async def rename(self, user_id: bytes, passkey_id: bytes, name: str) -> Passkey | None:
        """Change the name of a user's passkey, and return it; None if there is none."""
        while True:
            with translate_mongo_errors():
                document = await self._collection.find_one({"_id": passkey_id, "user_id": user_id})
            passkey = self._passkey(document) if document else None
            if document is None or passkey is None:
                return None
            sealed = self._sealer.seal(passkey.content.model_copy(update={"name": name}), passkey_id)
            with translate_mongo_errors():
                result = await self._collection.update_one(
                    {"_id": passkey_id, "envelope": passkey.envelope}, {"$set": sealed}
                )
            if result.matched_count:
                return self._passkey({**document, **sealed})

    async def remove(self, user_id: bytes, passkey_id: bytes, session: Any) -> bool:
        """Delete a user's passkey within the transaction of a database session; False if there is none."""
        result = await self._collection.delete_one({"_id": passkey_id, "user_id": user_id}, session=session)
        return bool(result.deleted_count)

    async def remove_all(self, user_id: bytes) -> None:
        """Delete all passkeys of a user."""
        with translate_mongo_errors():
            await self._collection.delete_many({"user_id": user_id})

    def _passkey(self, document: Document) -> Passkey | None:
        try:
            content = self._sealer.open(PasskeyContent, document)
        except Unsealable:
            content = None
        if content is None or content.user_id != document["user_id"]:
            self._damaged.inc()
            log.error("passkey cannot be decrypted: modified in the database, or its key is not in the key ring")
            return None
        return Passkey(
            passkey_id=document["_id"],
            content=content,
            created_at=document["created_at"],
            last_used_at=document.get("last_used_at"),
            envelope=document["envelope"],
        )
