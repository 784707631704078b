"""Which account a user of the provider has: found by a blind index of issuer and subject, which are sealed."""

import secrets
from dataclasses import dataclass
from typing import Any

import structlog
from pymongo import IndexModel
from pymongo.errors import DuplicateKeyError

from ...core.crypto.blind_index import BlindIndex
from ...core.crypto.keys import KeyRing
from ...core.crypto.records import Content, RecordSealer
from ...core.crypto.sealing import Unsealable
from ...core.database.mongo import Document, Indexes, Mongo, translate_mongo_errors
from ...core.database.resealing import Resealable
from ...core.metrics import NOTHING, Counter
from ...errors import Damaged

COLLECTION = "oidc_links"
KIND = "oidc link"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("subject_index", name="subject_index", unique=True),
        IndexModel("user_id", name="user_id"),
    ]
}
ID_BYTES = 16

log = structlog.get_logger(__name__)


class LinkContent(Content):
    """The sealed part of a link: the user of the provider, and the account."""

    issuer: str
    subject: str
    user_id: bytes


class AlreadyLinked(Exception):
    """The user of the provider has an account."""


@dataclass(frozen=True)
class Link:
    """The account of a user of the provider."""

    link_id: bytes
    user_id: bytes


class Subjects:
    """The blind index of users of providers."""

    def __init__(self, ring: KeyRing) -> None:
        self._index = BlindIndex(ring, "oidc subject")

    def index(self, issuer: str, subject: str) -> list[bytes]:
        """Return the index of a user under each key of the ring."""
        # An issuer is a URL, so it contains no space.
        return list(self._index.of(f"{issuer} {subject}"))


RESEALABLE = Resealable(
    COLLECTION,
    KIND,
    LinkContent,
    lambda ring, content: {"subject_index": Subjects(ring).index(content.issuer, content.subject)},
)


class LinkStore:
    """All queries on links; ``damaged`` counts the links that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._sealer = RecordSealer(ring, KIND)
        self._subjects = Subjects(ring)
        self._damaged = damaged

    async def find(self, issuer: str, subject: str) -> Link | None:
        """Return the link of a user of the provider; None without one. Raises `Damaged`."""
        query = {"subject_index": {"$in": self._subjects.index(issuer, subject)}}
        with translate_mongo_errors():
            document = await self._collection.find_one(query)
        if document is None:
            return None
        content = self._opened(document)
        if (content.issuer, content.subject, content.user_id) != (issuer, subject, document["user_id"]):
            raise self._modified()
        return Link(document["_id"], content.user_id)

    async def add(self, issuer: str, subject: str, session: Any, user_id: bytes) -> None:
        """Store a link in the transaction of a session. Raises `AlreadyLinked`."""
        link_id = secrets.token_bytes(ID_BYTES)
        content = LinkContent(issuer=issuer, subject=subject, user_id=user_id)
        document = {
            "_id": link_id,
            "user_id": user_id,
            "subject_index": self._subjects.index(issuer, subject),
            **self._sealer.seal(content, link_id),
        }
        try:
            await self._collection.insert_one(document, session=session)
        except DuplicateKeyError:
            raise AlreadyLinked from None

    async def has(self, user_id: bytes, session: Any = None) -> bool:
        """Tell whether an account has a link, in the transaction of a session or outside."""
        with translate_mongo_errors():
            return await self._collection.find_one({"user_id": user_id}, {"_id": 1}, session=session) is not None

    async def remove(self, link: Link) -> None:
        """Delete a link whose account is gone."""
        with translate_mongo_errors():
            await self._collection.delete_one({"_id": link.link_id})

    async def erase(self, user_id: bytes) -> None:
        """Delete the links of an account that is being deleted."""
        with translate_mongo_errors():
            await self._collection.delete_many({"user_id": user_id})

    def _opened(self, document: Document) -> LinkContent:
        try:
            return self._sealer.open(LinkContent, document)
        except Unsealable:
            raise self._modified() from None

    def _modified(self) -> Damaged:
        self._damaged.inc()
        log.error("provider link cannot be decrypted: modified in the database, or its key is not in the key ring")
        return Damaged("The link of this account to the identity provider cannot be read. Contact the operator.")
