"""Creates a year of gathered messages for the bench to export, with the service's own code and without HTTP."""

from datetime import timedelta

from src.accounts.administration import AccountAdministration
from src.accounts.api_tokens import ApiTokenStore
from src.accounts.feature import credential_limits
from src.accounts.sessions import SessionStore
from src.accounts.users import User, UserContent, UserStore
from src.core.audit import NoAudit
from src.core.clock import MILLISECOND, utc_now
from src.core.crypto.keys import KeyRing
from src.core.crypto.records import RecordSealer
from src.core.database.group_commit import group_commit
from src.core.database.mongo import Document, Mongo
from src.gatherer.bundle import COLLECTION, KIND, BundleContent, Delivery, document_id
from src.gatherer.sender_counters import SenderCounters
from src.settings import Settings

SENDERS = 20
SPAN = timedelta(days=365)
INSERTED_AT_ONCE = 5000
STEPS = 10
TEXT = "GET /index.html HTTP/1.1 from a client that wants to know, answered 200 after some milliseconds"


async def fill_gathered(mongo_url: str, database: str, ring: KeyRing, *, messages: int, each: int) -> None:
    """Create senders and a year of their messages, ``each`` messages per batch, in the database of a stack."""
    mongo = Mongo(Settings(_env_file=None, mongo_database=database), mongo_url)
    users = UserStore(mongo, ring, group_commit(max_batch=1000, max_queue=1000))
    senders = [await _user(users, f"bench-sender-{number}") for number in range(SENDERS)]
    counters = SenderCounters(mongo)
    await counters.read()
    sealer, ended = RecordSealer(ring, KIND), utc_now()
    collection = mongo.collection(COLLECTION)
    sequences = dict.fromkeys((sender.user_id for sender in senders), 1)
    documents: list[Document] = []
    total = messages // each
    for position in range(1, total + 1):
        sender = senders[position % SENDERS].user_id
        received_at = ended - (SPAN - SPAN * position / total) // MILLISECOND * MILLISECOND
        delivery = Delivery(
            user_id=sender,
            sequence=sequences[sender],
            batch=None,
            messages=tuple(f"{TEXT} {number}" for number in range(each)),
        )
        sequences[sender] += each
        bundle_id = document_id(position)
        documents.append(
            {
                "_id": bundle_id,
                "senders": [{"user_id": sender, "count": each, "last": sequences[sender] - 1}],
                "received_at": received_at,
                "expires_at": received_at + 2 * SPAN,
                "count": each,
                **sealer.seal(BundleContent(received_at=received_at, deliveries=(delivery,)), bundle_id),
            }
        )
        if len(documents) == INSERTED_AT_ONCE or position == total:
            await collection.insert_many(documents, ordered=False)
            documents.clear()
        if position % max(1, total // STEPS) == 0:
            print(f"{position * each:>12,} of {messages:,} messages", flush=True)
    await counters.note(total, ended, {})
    await mongo.close()


async def make_operator(mongo_url: str, database: str, ring: KeyRing, username: str, password: str) -> None:
    """Create the account of an operator."""
    settings = Settings(_env_file=None, mongo_database=database)
    mongo = Mongo(settings, mongo_url)
    batching = group_commit(max_batch=10, max_queue=10)
    administration = AccountAdministration(
        users=UserStore(mongo, ring, batching),
        sessions=SessionStore(mongo, ring, life=SPAN),
        tokens=ApiTokenStore(mongo, ring, batching),
        limits=credential_limits(settings, mongo, ring),
        bcrypt_cost=4,
        audit=NoAudit(),
    )
    await administration.create(username, password, operator=True)
    await mongo.close()


async def _user(users: UserStore, username: str) -> User:
    user = await users.add(UserContent(username=username))
    if user is None:
        raise RuntimeError("the database is not empty")
    return user
