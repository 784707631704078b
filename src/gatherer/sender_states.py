"""The state of a sender, in MongoDB, and the token that refers to it.

A sender is identified, authenticated or, without a document, logged out. A state belongs to a user at an address. Both
are stored as one blind index, so the database does not tell who has sent from where. All workers share the states, and
MongoDB deletes the expired ones.

An authenticated sender holds a token: a JWT, valid for 10 minutes, from one address, in one authentication. Its key and
audience differ from those of access tokens, so neither is valid as the other.
"""

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pymongo import IndexModel

from ..core.clock import UNEXPIRED, DatabaseClock
from ..core.crypto.blind_index import BlindIndex
from ..core.crypto.keys import KeyRing, Purpose
from ..core.crypto.signed_tokens import LEEWAY, REGISTERED, SignedTokens
from ..core.database.group_commit import Batching
from ..core.database.mongo import Document, Indexes, Mongo, insert_unique, translate_mongo_errors

COLLECTION = "gathered_states"
INDEXES: Indexes = {
    COLLECTION: [
        IndexModel("pair_index", name="pair_index", unique=True),
        IndexModel("user_id", name="user_id"),
        IndexModel("expires_at", name="expires_at", expireAfterSeconds=0),
    ]
}
ID_BYTES = 16
LIFE = timedelta(minutes=10)
"""How long an identified sender has to authenticate."""
AUDIENCE = "sealpost-gatherer"
TOKEN_LIFE = timedelta(seconds=600)
_INDEX_BYTES = 32
IDS = {"sub": ID_BYTES, "sid": ID_BYTES, "adr": _INDEX_BYTES, "prf": ID_BYTES}
REQUIRED = [*REGISTERED, *IDS]
AUTHENTICATED_LIFE = TOKEN_LIFE + LEEWAY


@dataclass(frozen=True)
class SenderState:
    """A sender that has identified, and perhaps authenticated."""

    state_id: bytes
    user_id: bytes
    is_authenticated: bool


class SenderStates:
    """Every query on states."""

    def __init__(self, mongo: Mongo, ring: KeyRing, batching: Batching) -> None:
        self._collection = mongo.collection(COLLECTION)
        self._clock = mongo.clock
        self._pairs = BlindIndex(ring, "sender and address")
        self._finds = batching("find_sender_states", self._find_each)

    def index(self, user_id: bytes, network: str) -> bytes:
        """Return the blind index of a user at an address: 32 bytes."""
        return self._index(user_id, network)[0]

    def is_index(self, index: bytes, user_id: bytes, network: str) -> bool:
        """Tell whether this is the index of a user at an address under any key of the ring."""
        return any(hmac.compare_digest(index, one) for one in self._index(user_id, network))

    async def identify(self, user_id: bytes, network: str, counted_until: datetime) -> None:
        """Set a sender's state to identified, unless it is authenticated already.

        ``counted_until`` is stored for `authenticate`.
        """
        pair_index = self._index(user_id, network)
        while True:
            now = self._clock.now()
            same = {"pair_index": {"$in": pair_index}}
            with translate_mongo_errors():
                result = await self._collection.update_one(
                    {**same, **UNEXPIRED},
                    {"$max": {"expires_at": now + LIFE}, "$set": {"counted_until": counted_until}},
                )
                if result.matched_count:
                    return
                # An expired state must not be renewed: its tokens would be valid again.
                await self._collection.delete_one({**same, "$expr": {"$lte": ["$expires_at", "$$NOW"]}})
            document = {
                "_id": secrets.token_bytes(ID_BYTES),
                "pair_index": pair_index,
                "user_id": user_id,
                "counted_until": counted_until,
                "expires_at": now + LIFE,
            }
            if await insert_unique(self._collection, document):
                return

    async def authenticate(self, state_id: bytes) -> tuple[bool, datetime | None]:
        """Set a sender's state to authenticated, and return True; False if there is no state any more.

        The second value tells until when the last identification counts; None if it was returned before.
        """
        now = self._clock.now()
        until = now + AUTHENTICATED_LIFE
        with translate_mongo_errors():
            before = await self._collection.find_one_and_update(
                {"_id": state_id, **UNEXPIRED},
                {"$max": {"authenticated_until": until, "expires_at": until}, "$unset": {"counted_until": ""}},
                {"counted_until": 1},
            )
        return (True, before.get("counted_until")) if before else (False, None)

    async def find(self, user_id: bytes, network: str) -> SenderState | None:
        """Return the state of a sender, if there is one."""
        now = self._clock.now()
        query = {"pair_index": {"$in": self._index(user_id, network)}, **UNEXPIRED}
        with translate_mongo_errors():
            document = await self._collection.find_one(query)
        return _state(document, now) if document else None

    async def is_authenticated(self, state_id: bytes, user_id: bytes) -> bool:
        """Tell whether a state exists, belongs to the user, and is authenticated."""
        state = await self._finds.submit(state_id)
        return state is not None and state.user_id == user_id and state.is_authenticated

    async def reset(self, user_id: bytes, network: str) -> None:
        """Delete a sender's state: it has to identify again."""
        with translate_mongo_errors():
            await self._collection.delete_one({"pair_index": {"$in": self._index(user_id, network)}})

    async def erase(self, user_id: bytes) -> None:
        """Delete every state of a user."""
        with translate_mongo_errors():
            await self._collection.delete_many({"user_id": user_id})

    async def close(self) -> None:
        """Wait for commands in flight."""
        await self._finds.close()

    def _index(self, user_id: bytes, network: str) -> list[bytes]:
        return list(self._pairs.of(f"{user_id.hex()} {network}"))

    async def _find_each(self, state_ids: Sequence[bytes]) -> Sequence[SenderState | None]:
        now = self._clock.now()
        query = {"_id": {"$in": list(set(state_ids))}, **UNEXPIRED}
        with translate_mongo_errors():
            documents = await self._collection.find(query).to_list(None)
        found = {document["_id"]: _state(document, now) for document in documents}
        return [found.get(state_id) for state_id in state_ids]


def _state(document: Document, now: datetime) -> SenderState:
    until = document.get("authenticated_until")
    return SenderState(document["_id"], document["user_id"], isinstance(until, datetime) and until > now)


@dataclass(frozen=True, repr=False)
class SenderClaims:
    """The claims of a token: the user, the state, the index of user and address, and the proof of the password."""

    user_id: bytes
    state_id: bytes
    address_index: bytes
    proof: bytes


class SenderTokens:
    """Writes and reads the tokens of senders."""

    def __init__(self, ring: KeyRing, clock: DatabaseClock | None = None) -> None:
        self._tokens = SignedTokens(ring, Purpose.GATHER_TOKEN, audience=AUDIENCE, ids=IDS, clock=clock)

    def write(self, claims: SenderClaims, *, issued_at: datetime) -> str:
        """Return a token, signed with the newest key."""
        ids = {"sub": claims.user_id, "sid": claims.state_id, "adr": claims.address_index, "prf": claims.proof}
        return self._tokens.write(ids, issued_at=issued_at, expires_at=issued_at + TOKEN_LIFE)

    def read(self, token: str) -> SenderClaims | None:
        """Return the claims of a token; None if it is not valid now or not signed with a key of the ring."""
        ids = self._tokens.read(token)
        return SenderClaims(ids["sub"], ids["sid"], ids["adr"], ids["prf"]) if ids else None
