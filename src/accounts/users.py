"""Users in MongoDB: the name and the password hash sealed, found by a blind index of the name."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from pymongo import IndexModel, ReturnDocument

from ..core.batching import Batching
from ..core.blind_index import BlindIndex
from ..core.clock import utc_now
from ..core.keys import KeyRing
from ..core.metrics import NOTHING, Counter
from ..core.mongo import Document, Indexes, Mongo, answering, insert_unique
from ..core.records import Content, RecordSealer
from ..core.resealing import Resealable
from ..core.sealing import Unsealable
from ..errors import Damaged

COLLECTION = "users"
KIND = "user"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("name_index", name="name_index", unique=True),
        IndexModel("deleting_at", name="deleting_at", sparse=True),
    ]
}
ID_BYTES = 16
# A user who is being deleted is there for the job that does so, and for nobody else.
PRESENT: Document = {"deleting_at": None}

log = structlog.get_logger(__name__)


class UserContent(Content):
    """What is sealed of a user."""

    username: str
    password_hash: str | None = None
    operator: bool = False
    disabled: bool = False


@dataclass(frozen=True)
class User:
    """A user; ``envelope`` tells this state of the sealed content from every other."""

    user_id: bytes
    content: UserContent
    created_at: datetime
    last_login_at: datetime | None
    last_request_at: datetime | None
    envelope: bytes

    @property
    def name(self) -> str:
        """The username as it was registered."""
        return self.content.username


class UserNames:
    """How usernames are indexed: without regard to case."""

    def __init__(self, ring: KeyRing) -> None:
        self._index = BlindIndex(ring, "username")

    def index(self, username: str) -> list[bytes]:
        """Return the blind index of a name under each key of the ring."""
        return list(self._index.of(username.lower()))


RESEALABLE = Resealable(
    COLLECTION, KIND, UserContent, lambda ring, content: {"name_index": UserNames(ring).index(content.username)}
)


class UserStore:
    """Every query on users; ``damaged`` counts those that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._sealer = RecordSealer(ring, KIND)
        self._names = UserNames(ring)
        self._finds = batching("find_users", self._find_each)
        self._damaged = damaged

    async def add(self, content: UserContent) -> User | None:
        """Store a new user; None where the name is taken."""
        user_id = secrets.token_bytes(ID_BYTES)
        document = {
            "_id": user_id,
            "name_index": self._names.index(content.username),
            "created_at": utc_now(),
            **self._sealer.seal(content, user_id),
        }
        return self._user(document) if await insert_unique(self._collection, document) else None

    async def is_taken(self, username: str) -> bool:
        """Tell whether there is a user of this name, in whatever case."""
        with answering():
            return bool(
                await self._collection.find_one({"name_index": {"$in": self._names.index(username)}}, {"_id": 1})
            )

    async def find(self, user_id: bytes) -> User | None:
        """Return a user by id; None where there is none (any more). Raises `Damaged`."""
        return await self._finds.submit(user_id)

    async def is_present(self, user_id: bytes) -> bool:
        """Tell whether a user is there, be it one who cannot be read."""
        try:
            return await self.find(user_id) is not None
        except Damaged:
            return True

    async def find_by_name(self, username: str) -> User | None:
        """Return a user by name, in whatever case; None where there is none (any more). Raises `Damaged`."""
        with answering():
            document = await self._collection.find_one({"name_index": {"$in": self._names.index(username)}, **PRESENT})
        return self._user(document) if document else None

    async def all(self) -> AsyncIterator[User | bytes]:
        """Yield every user by age, and the id of each one that cannot be read."""
        with answering():
            async for document in self._collection.find(PRESENT).sort("created_at"):
                try:
                    yield self._user(document)
                except Damaged:
                    yield bytes(document["_id"])

    async def change(self, user: User, **changes: Any) -> User | None:
        """Change the sealed content of a user; None where it is not any more as it was given."""
        content = user.content.model_copy(update=changes)
        with answering():
            document = await self._collection.find_one_and_update(
                {"_id": user.user_id, "envelope": user.envelope, **PRESENT},
                {"$set": self._sealer.seal(content, user.user_id)},
                return_document=ReturnDocument.AFTER,
            )
        return self._user(document) if document else None

    async def note_login(self, user_id: bytes) -> User | None:
        """Keep the time of a login and return the user as it is now; None where there is none any more."""
        now = utc_now()
        with answering():
            document = await self._collection.find_one_and_update(
                {"_id": user_id, **PRESENT},
                {"$set": {"last_login_at": now}, "$max": {"last_request_at": now}},
                return_document=ReturnDocument.AFTER,
            )
        return self._user(document) if document else None

    async def mark_deleting(self, user_id: bytes) -> None:
        """Make a user absent for everything but the deletion that follows."""
        with answering():
            await self._collection.update_one({"_id": user_id, **PRESENT}, {"$set": {"deleting_at": utc_now()}})

    async def being_deleted(self) -> list[bytes]:
        """Return the ids of the users whose deletion has begun."""
        with answering():
            documents = await self._collection.find({"deleting_at": {"$ne": None}}, {"_id": 1}).to_list(None)
        return [document["_id"] for document in documents]

    async def remove(self, user_id: bytes) -> None:
        """Delete a user who has been marked."""
        with answering():
            await self._collection.delete_one({"_id": user_id, "deleting_at": {"$ne": None}})

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._finds.close()

    async def _find_each(self, user_ids: Sequence[bytes]) -> Sequence[User | Exception | None]:
        found: dict[bytes, User | Exception] = {}
        with answering():
            for document in await self._collection.find({"_id": {"$in": list(set(user_ids))}, **PRESENT}).to_list(None):
                try:
                    found[document["_id"]] = self._user(document)
                except Damaged as error:
                    found[document["_id"]] = error
        return [found.get(user_id) for user_id in user_ids]

    def _user(self, document: Document) -> User:
        try:
            content = self._sealer.open(UserContent, document)
        except Unsealable:
            self._damaged.inc()
            log.error("a user does not open: changed in the database, or its key is not in the ring")
            raise Damaged("This account cannot be read. Ask the operator of this service.") from None
        return User(
            user_id=document["_id"],
            content=content,
            created_at=document["created_at"],
            last_login_at=document.get("last_login_at"),
            last_request_at=document.get("last_request_at"),
            envelope=document["envelope"],
        )
