"""Users in MongoDB: name and password hash are sealed, and a blind index of the name finds them."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from pymongo import IndexModel, ReturnDocument
from pymongo.errors import DuplicateKeyError

from ..core.crypto.blind_index import BlindIndex
from ..core.crypto.keys import KeyRing
from ..core.crypto.records import Content, RecordSealer
from ..core.crypto.sealing import Unsealable
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, insert_unique, translate_mongo_errors
from ..core.database.resealing import Resealable
from ..core.metrics import NOTHING, Counter
from ..errors import Damaged

COLLECTION = "users"
KIND = "user"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("name_index", name="name_index", unique=True),
        IndexModel("deleting_at", name="deleting_at", sparse=True),
        IndexModel("reserved_until", name="reserved_until", expireAfterSeconds=0),
        IndexModel([("created_at", 1), ("_id", 1)], name="created_at"),
    ]
}
NAME_PATTERN = r"^[A-Za-z0-9_.-]{3,32}$"
"""What a username must match."""
ID_BYTES = 16
RESERVATION = timedelta(minutes=15)
"""How long a name is reserved until its first password is set."""
# Only the deletion job sees a user that is being deleted.
PRESENT: Document = {"deleting_at": None}

# An account, or what may be one: a reserved name is none.
_ACCOUNT: Document = {**PRESENT, "reserved_until": None}

Step = Callable[[Any, bytes], Awaitable[None]]
"""A step of the transaction that stores a user, given its session and the user's id; an exception aborts it."""

log = structlog.get_logger(__name__)


class _NotStored(Exception):
    """The name has been taken or the reservation changed meanwhile; aborts the transaction."""


class UserContent(Content):
    """The sealed part of a user."""

    username: str
    password_hash: str | None = None
    operator: bool = False
    disabled: bool = False


@dataclass(frozen=True)
class User:
    """A user; ``envelope`` identifies this version of the sealed content.

    A user with ``reserved_until`` is no account yet: a name without a password, whose reservation lapses then.
    """

    user_id: bytes
    content: UserContent
    created_at: datetime
    last_login_at: datetime | None
    last_request_at: datetime | None
    envelope: bytes
    reserved_until: datetime | None = None

    @property
    def name(self) -> str:
        """The username as registered."""
        return self.content.username

    @property
    def is_reserved(self) -> bool:
        """Tell whether this is only a reserved name; the sealed content decides whether there is a password."""
        return self.reserved_until is not None and self.content.password_hash is None


class UserNames:
    """The blind index of usernames, which ignores case."""

    def __init__(self, ring: KeyRing) -> None:
        self._index = BlindIndex(ring, "username")

    def index(self, username: str) -> list[bytes]:
        """Return the index of a name under each key of the ring."""
        return list(self._index.of(username.lower()))


RESEALABLE = Resealable(
    COLLECTION, KIND, UserContent, lambda ring, content: {"name_index": UserNames(ring).index(content.username)}
)


class UserStore:
    """All queries on users; ``damaged`` counts the users that cannot be read."""

    def __init__(self, mongo: Mongo, ring: KeyRing, batching: Batching, damaged: Counter = NOTHING) -> None:
        self._mongo = mongo
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._sealer = RecordSealer(ring, KIND)
        self._names = UserNames(ring)
        self._finds = batching("find_users", self._find_each)
        self._damaged = damaged

    async def add(
        self, content: UserContent, *, reserved_until: datetime | None = None, step: Step | None = None
    ) -> User | None:
        """Store a new user, in one transaction with the ``step`` if there is one; None if the name is taken."""
        user_id = secrets.token_bytes(ID_BYTES)
        document = {
            "_id": user_id,
            "name_index": self._names.index(content.username),
            "created_at": self._clock.now(),
            **({"reserved_until": reserved_until} if reserved_until else {}),
            **self._sealer.seal(content, user_id),
        }
        return self._user(document) if await self._insert(document, step) else None

    async def is_taken(self, username: str) -> bool:
        """Tell whether an account has this name, in any case; a reserved name is not taken."""
        document = await self._document(username)
        return document is not None and self._reserved(document) is None

    async def reserve(self, username: str) -> tuple[User, bool] | None:
        """Return the user of a name; reserve a free name, and extend the reservation of a reserved one.

        The second value is True if the name was free until now. Returns None while the account is being deleted.
        Raises `Damaged`.
        """
        while True:
            now = self._clock.now()
            until = now + RESERVATION
            document = await self._document(username)
            if document is None:
                if user := await self.add(UserContent(username=username), reserved_until=until):
                    return user, True
                continue  # another request was first
            if document.get("deleting_at"):
                return None
            user = self._user(document)
            if not user.is_reserved:
                return user, False
            same = {"_id": user.user_id, "reserved_until": user.reserved_until}
            with translate_mongo_errors():
                result = await self._collection.update_one(same, {"$max": {"reserved_until": until}})
            if result.matched_count:
                return user, user.reserved_until is not None and user.reserved_until <= now
            # Extended by another request, an account now, or lapsed.

    async def claim(self, content: UserContent, step: Step | None = None) -> User | None:
        """Store a new user, replacing a reservation if there is one; None if the name is taken.

        The user is stored in one transaction with the ``step``, if there is one: either both take effect, or neither.
        If the name is taken, the step has no effect. Raises what the step raises, and `Unavailable`, after which the
        transaction may still succeed.
        """
        while True:
            if user := await self.add(content, step=step):
                return user
            document = await self._document(content.username)
            if document is None:
                continue  # a reservation that has just lapsed
            reserved = self._reserved(document)
            if reserved is None:
                return None
            if user := await self._begin(reserved, content, step):
                return user

    async def set_first_password(self, user: User, password_hash: str) -> User | None:
        """Turn a reserved name into an account; None if it has changed since it was read."""
        return await self._begin(user, user.content.model_copy(update={"password_hash": password_hash}))

    async def find(self, user_id: bytes) -> User | None:
        """Return a user by id; None if there is none (any more). Raises `Damaged`."""
        return await self._finds.submit(user_id)

    async def find_in(self, user_id: bytes, session: Any) -> User | None:
        """Return a user by id within the transaction of a database session; None if there is none. Raises `Damaged`."""
        document = await self._collection.find_one({"_id": user_id, **PRESENT}, session=session)
        return self._user(document) if document else None

    async def touch(self, user_id: bytes, session: Any) -> bool:
        """Make the transaction of a database session conflict with others of the same user; False if it is gone."""
        changed = {"$set": {"ways_changed_at": self._clock.now()}}
        result = await self._collection.update_one({"_id": user_id, **PRESENT}, changed, session=session)
        return bool(result.matched_count)

    async def is_present(self, user_id: bytes) -> bool:
        """Tell whether a user exists, readable or not."""
        try:
            return await self.find(user_id) is not None
        except Damaged:
            return True

    async def find_by_name(self, username: str) -> User | None:
        """Return a user by name, in any case; None if there is none (any more). Raises `Damaged`."""
        with translate_mongo_errors():
            document = await self._collection.find_one({"name_index": {"$in": self._names.index(username)}, **PRESENT})
        return self._user(document) if document else None

    async def all(self) -> AsyncIterator[User | bytes]:
        """Yield all accounts, oldest first, and the id of each one that cannot be read."""
        with translate_mongo_errors():
            async for document in self._collection.find(_ACCOUNT).sort("created_at"):
                try:
                    yield self._user(document)
                except Damaged:
                    yield bytes(document["_id"])

    async def page(self, after: bytes | None, limit: int) -> tuple[list[User], bytes | None] | None:
        """Return up to ``limit`` accounts created after the user ``after``, oldest first; None without such a user.

        The second value is the id of the last account if more follow. An account that cannot be read is logged and left
        out.
        """
        query = _ACCOUNT
        with translate_mongo_errors():
            if after is not None:
                last = await self._collection.find_one({"_id": after}, {"created_at": 1})
                if last is None:
                    return None
                later = [{"created_at": {"$gt": last["created_at"]}}, {"_id": {"$gt": after}}]
                query = {**_ACCOUNT, "created_at": {"$gte": last["created_at"]}, "$or": later}
            found = self._collection.find(query).sort([("created_at", 1), ("_id", 1)]).limit(limit + 1)
            documents = await found.to_list(None)
        following = documents[limit - 1]["_id"] if len(documents) > limit else None
        users = []
        for document in documents[:limit]:
            with suppress(Damaged):
                users.append(self._user(document))
        return users, following

    async def change(self, user: User, **changes: Any) -> User | None:
        """Change the sealed content of a user; None if it has changed since it was read."""
        content = user.content.model_copy(update=changes)
        with translate_mongo_errors():
            document = await self._collection.find_one_and_update(
                {"_id": user.user_id, "envelope": user.envelope, **PRESENT},
                {"$set": self._sealer.seal(content, user.user_id)},
                return_document=ReturnDocument.AFTER,
            )
        return self._user(document) if document else None

    async def change_in(self, user: User, session: Any, **changes: Any) -> None:
        """Change the sealed content of a user that the transaction of a database session has read."""
        sealed = self._sealer.seal(user.content.model_copy(update=changes), user.user_id)
        await self._collection.update_one({"_id": user.user_id}, {"$set": sealed}, session=session)

    async def note_login(self, user_id: bytes) -> User | None:
        """Record a login and return the user as it is now; None if it is gone."""
        now = self._clock.now()
        with translate_mongo_errors():
            document = await self._collection.find_one_and_update(
                {"_id": user_id, **PRESENT},
                {"$set": {"last_login_at": now}, "$max": {"last_request_at": now}},
                return_document=ReturnDocument.AFTER,
            )
        return self._user(document) if document else None

    async def mark_deleting(self, user_id: bytes) -> None:
        """Hide a user from everything except the deletion that follows."""
        with translate_mongo_errors():
            await self._collection.update_one({"_id": user_id, **PRESENT}, {"$set": {"deleting_at": self._clock.now()}})

    async def being_deleted(self) -> list[bytes]:
        """Return the ids of the users whose deletion has begun."""
        with translate_mongo_errors():
            documents = await self._collection.find({"deleting_at": {"$ne": None}}, {"_id": 1}).to_list(None)
        return [document["_id"] for document in documents]

    async def remove(self, user_id: bytes) -> bool:
        """Delete a user that has been marked; False if there is none."""
        with translate_mongo_errors():
            result = await self._collection.delete_one({"_id": user_id, "deleting_at": {"$ne": None}})
        return bool(result.deleted_count)

    async def close(self) -> None:
        """Wait for the commands in flight."""
        await self._finds.close()

    async def _document(self, username: str) -> Document | None:
        with translate_mongo_errors():
            found: Document | None = await self._collection.find_one(
                {"name_index": {"$in": self._names.index(username)}}
            )
        return found

    def _reserved(self, document: Document) -> User | None:
        """Return the reservation in a document; None for a document that is, or may be, an account."""
        try:
            user = self._user(document)
        except Damaged:
            return None
        return user if user.is_reserved and not document.get("deleting_at") else None

    async def _insert(self, document: Document, step: Step | None) -> bool:
        """Insert a user; False if the name is taken."""
        if step is None:
            return await insert_unique(self._collection, document)

        async def insert(session: Any) -> Document | None:
            try:
                await self._collection.insert_one(document, session=session)
            except DuplicateKeyError:
                return None
            return document

        return await self._transact(step, insert) is not None

    async def _begin(self, user: User, content: UserContent, step: Step | None = None) -> User | None:
        same = {"_id": user.user_id, "envelope": user.envelope, "reserved_until": {"$ne": None}, **PRESENT}
        changes = {"created_at": self._clock.now(), **self._sealer.seal(content, user.user_id)}

        async def replace(session: Any = None) -> Document | None:
            document: Document | None = await self._collection.find_one_and_update(
                same,
                # In one step, so that no user with a password ever lapses.
                {"$set": changes, "$unset": {"reserved_until": ""}},
                return_document=ReturnDocument.AFTER,
                session=session,
            )
            return document

        with translate_mongo_errors():
            document = await (self._transact(step, replace) if step else replace())
        return self._user(document) if document else None

    async def _transact(self, step: Step, store: Callable[[Any], Awaitable[Document | None]]) -> Document | None:
        """Run the step and ``store`` in one transaction, without any effect if ``store`` returns None."""

        async def work(session: Any) -> Document:
            document = await store(session)
            if document is None:
                raise _NotStored
            await step(session, document["_id"])
            return document

        try:
            return await self._mongo.transact(work)
        except _NotStored:
            return None

    async def _find_each(self, user_ids: Sequence[bytes]) -> Sequence[User | Exception | None]:
        found: dict[bytes, User | Exception] = {}
        with translate_mongo_errors():
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
            log.error("user cannot be decrypted: modified in the database, or its key is not in the key ring")
            raise Damaged("This account cannot be read. Contact the operator of this service.") from None
        return User(
            user_id=document["_id"],
            content=content,
            created_at=document["created_at"],
            last_login_at=document.get("last_login_at"),
            last_request_at=document.get("last_request_at"),
            envelope=document["envelope"],
            reserved_until=document.get("reserved_until"),
        )
