"""API tokens: a user creates them for programs, each with its scopes.

A token is ``sp_`` followed by 32 random bytes and their CRC-32, in hexadecimal: 75 characters. Scanners for leaked
credentials recognise the form, and the checksum rejects a mistyped token without a query. Only its SHA-256 is stored;
the bytes are random, so no slow hash is needed. Scopes, owner, name and expiry are sealed, so write access to the
database is not enough to create a token or to widen one.
"""

import hmac
import re
import secrets
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

import structlog
from pymongo import IndexModel

from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, insert_unique, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter

COLLECTION = "api_tokens"
KIND = "api token"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("hash", name="hash", unique=True),
        IndexModel("user_id", name="user_id"),
        # Each slot of a user holds one token, so concurrent requests never create more tokens than there are slots.
        IndexModel(
            [("user_id", 1), ("slot", 1)],
            name="slot",
            unique=True,
            partialFilterExpression={"slot": {"$exists": True}},
        ),
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
    ]
}
PREFIX = "sp_"
ID_BYTES = 16
RANDOM_BYTES = 32
CHECKSUM_BYTES = 4
_FORM = re.compile(rf"sp_[0-9a-f]{{{2 * (RANDOM_BYTES + CHECKSUM_BYTES)}}}")

log = structlog.get_logger(__name__)


def new_api_token() -> str:
    """Return a new token."""
    random = secrets.token_bytes(RANDOM_BYTES)
    return PREFIX + (random + _checksum(random)).hex()


def is_api_token(text: str) -> bool:
    """Tell whether a text has the form of a token and the right checksum."""
    if not _FORM.fullmatch(text):
        return False
    value = bytes.fromhex(text.removeprefix(PREFIX))
    return value[RANDOM_BYTES:] == _checksum(value[:RANDOM_BYTES])


def hash_api_token(token: str) -> bytes:
    """Return the SHA-256 of a token, as it is stored."""
    return sha256(b"sealpost/v1/api-token" + token.encode()).digest()


class ApiTokenContent(Content):
    """The sealed part of a token."""

    user_id: bytes
    hash: bytes
    name: str
    scopes: tuple[str, ...]
    expires_at: datetime | None


RESEALABLE = Resealable(COLLECTION, KIND, ApiTokenContent)


@dataclass(frozen=True)
class ApiToken:
    """A token that has not expired."""

    token_id: bytes
    content: ApiTokenContent
    created_at: datetime
    last_used_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Tell whether the token has not expired."""
        return self.content.expires_at is None or self.content.expires_at > now


class ApiTokenStore:
    """All queries on API tokens; ``damaged`` counts the tokens that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._finds = batching("find_api_tokens", self._find_each)
        self._damaged = damaged

    async def free_slots(self, user_id: bytes, most: int) -> list[int]:
        """Return the free slots of a user who may have ``most`` tokens; none if the user has that many.

        Expired tokens are deleted first, which frees their slots.
        """
        expired = {"user_id": user_id, "expires_at": {"$type": "date"}, "$expr": {"$lte": ["$expires_at", "$$NOW"]}}
        with translate_mongo_errors():
            await self._collection.delete_many(expired)
            documents = await self._collection.find({"user_id": user_id}).to_list(None)
        tokens = [self._token(document) for document in documents]
        if sum(token is not None for token in tokens) >= most:
            return []
        taken = {document["slot"] for document in documents if "slot" in document}
        # A token of an earlier release has no slot and still counts. A token that cannot be read does not count.
        without_slot = sum(
            token is not None and "slot" not in document for token, document in zip(tokens, documents, strict=True)
        )
        unreadable = sum(
            token is None and "slot" in document for token, document in zip(tokens, documents, strict=True)
        )
        end = allowed = most - without_slot + unreadable
        # A token in a slot beyond the end counts as well.
        while end and end + sum(slot >= end for slot in taken) > allowed:
            end -= 1
        return [slot for slot in range(end) if slot not in taken]

    async def add(self, content: ApiTokenContent, slot: int) -> ApiToken | None:
        """Store a new token; None if the slot is taken."""
        token_id = secrets.token_bytes(ID_BYTES)
        document = {
            "_id": token_id,
            "hash": content.hash,
            "user_id": content.user_id,
            "slot": slot,
            "created_at": self._clock.now(),
            **({"expires_at": content.expires_at} if content.expires_at else {}),
            **self._sealer.seal(content, token_id),
        }
        if not await insert_unique(self._collection, document):
            return None
        return ApiToken(token_id, content, document["created_at"], None)

    async def find(self, token: str) -> ApiToken | None:
        """Return a token that is valid now; None for any other."""
        found = await self._finds.submit(hash_api_token(token))
        return found if found and found.is_live(self._clock.now()) else None

    async def of_user(self, user_id: bytes) -> list[ApiToken]:
        """Return a user's tokens, newest first."""
        with translate_mongo_errors():
            documents = await self._collection.find({"user_id": user_id}).sort("created_at", -1).to_list(None)
        now = self._clock.now()
        tokens = (self._token(document) for document in documents)
        return [token for token in tokens if token and token.content.user_id == user_id and token.is_live(now)]

    async def remove(self, user_id: bytes, token_id: bytes) -> bool:
        """Delete one token of a user; False if there is none."""
        with translate_mongo_errors():
            result = await self._collection.delete_one({"_id": token_id, "user_id": user_id})
        return bool(result.deleted_count)

    async def remove_all(self, user_id: bytes) -> None:
        """Delete all tokens of a user."""
        with translate_mongo_errors():
            await self._collection.delete_many({"user_id": user_id})

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._finds.close()

    async def _find_each(self, hashes: Sequence[bytes]) -> Sequence[ApiToken | Exception | None]:
        with translate_mongo_errors():
            documents = await self._collection.find({"hash": {"$in": list(set(hashes))}}).to_list(None)
        found = {document["hash"]: self._token(document) for document in documents}
        return [found.get(one) for one in hashes]

    def _token(self, document: Document) -> ApiToken | None:
        try:
            content = self._sealer.open(ApiTokenContent, document)
        except Unsealable:
            content = None
        if content is None or not hmac.compare_digest(content.hash, document["hash"]):
            self._damaged.inc()
            log.error("API token cannot be decrypted: modified in the database, or its key is not in the key ring")
            return None
        return ApiToken(document["_id"], content, document["created_at"], document.get("last_used_at"))


def _checksum(random: bytes) -> bytes:
    return zlib.crc32(random).to_bytes(CHECKSUM_BYTES, "big")
