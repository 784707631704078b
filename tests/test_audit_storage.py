"""How events are stored: once, in the order of their times, without loss while MongoDB is away, and searchable."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from src.audit import recorder as recorders
from src.audit.reader import PAGE, AuditReader, Selection
from src.audit.recorder import AuditRecorder
from src.audit.records import COLLECTION, MOST_EVENTS, AuditSealer, Entry, first_id
from src.core.audit import AuditEvent, AuditKind
from src.core.clock import EPOCH, milliseconds
from src.core.crypto.keys import KeyRing, new_key, read_key_ring
from src.core.database.mongo import Unfit
from src.core.database.resealing import Resealing
from src.core.metrics import Metrics
from src.errors import Unavailable
from src.sealed.feature import EXPIRING
from src.storage import RESEALABLE

from .conftest import Api, altered

Serve = Callable[..., Awaitable[Api]]
DAY = timedelta(days=1)
ANN, BEN = b"a" * 16, b"b" * 16


class Counted:
    """A counter."""

    def __init__(self) -> None:
        self.total = 0.0

    def inc(self, by: float = 1) -> None:
        self.total += by


@pytest.fixture
async def api(serve: Serve) -> Api:
    """A server that records nothing by itself."""
    return await serve(audit_ttl=0)


def make(api: Api, dropped: Any = None, ring: KeyRing | None = None) -> AuditRecorder:
    """Return a recorder."""
    ring = ring or read_key_ring(api.settings)
    dropped = dropped or Metrics.off().audit_dropped
    return AuditRecorder(api.mongo, ring, life=DAY, with_addresses=False, dropped=dropped)


def opened(number: int) -> AuditEvent:
    """Return an event with a number."""
    return AuditEvent(kind=AuditKind.ITEM_OPENED, item_id=number.to_bytes(16, "big"))


async def read(api: Api, selection: Selection = Selection(), ring: KeyRing | None = None) -> list[Entry]:  # noqa: B008
    """Return the selected events."""
    began = api.mongo.clock.now()
    while api.mongo.clock.now() == began:
        await asyncio.sleep(0.001)  # the events of a millisecond are read once it is over
    reader = AuditReader(api.mongo, AuditSealer(ring or read_key_ring(api.settings)))
    return [entry async for page in reader.pages(selection) for entry in page]


def numbers(entries: Sequence[Entry]) -> list[int]:
    """Return the numbers of events."""
    return [int.from_bytes(entry.item_id or b"", "big") for entry in entries]


async def test_the_last_events_are_stored_when_a_process_stops(serve: Serve, mongo_url: str) -> None:
    """Also those of its last request."""
    api = await serve()
    created = await api.create()
    await api.open(created["secret_key"])

    await api.client.close()

    another = await serve(mongo_database=api.settings.mongo_database, keys=api.settings.keys)
    assert ["item_opened"] == [entry.kind for entry in await read(another)]


async def test_events_are_stored_once_after_an_outage(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recording goes on meanwhile; a command without an answer is not repeated; none is sent while it must not be."""
    recorder, insert = make(api), AuditRecorder._insert

    async def insert_unheard(self: AuditRecorder) -> None:
        await insert(self)
        raise Unavailable

    monkeypatch.setattr(AuditRecorder, "_insert", insert_unheard)
    for number in range(MOST_EVENTS + 10):
        recorder.record(opened(number))
    for _ in range(2):
        with pytest.raises(Unavailable):
            await recorder.flush()
    monkeypatch.setattr(AuditRecorder, "_insert", insert)
    recorder.record(opened(MOST_EVENTS + 10))
    monkeypatch.setattr(api.mongo, "unfit", Unfit("the clock is wrong"))
    with pytest.raises(Unavailable):
        await recorder.flush()
    monkeypatch.setattr(api.mongo, "unfit", None)

    await recorder.flush()

    assert list(range(MOST_EVENTS + 11)) == numbers(await read(api))


async def test_a_full_queue_drops_the_oldest_events(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted, as are those that a process cannot store before it stops."""
    monkeypatch.setattr(recorders, "MOST_QUEUED", 5)
    dropped = Counted()
    recorder = make(api, dropped)
    for number in range(8):
        recorder.record(opened(number))
    await recorder.flush()

    assert (3, [3, 4, 5, 6, 7]) == (dropped.total, numbers(await read(api)))

    async def fail(_: AuditRecorder) -> None:
        raise Unavailable

    monkeypatch.setattr(AuditRecorder, "_insert", fail)
    recorder.record(opened(9))
    with pytest.raises(Unavailable):
        await recorder.flush()
    recorder.record(opened(10))
    await recorder.close()

    assert 5 == dropped.total


async def test_events_of_many_workers_are_read_in_order(api: Api) -> None:
    """Over many pages, also if their records overlap; by time, kind and user, and never after their expiry."""
    sealer, collection = AuditSealer(read_key_ring(api.settings)), api.mongo.collection(COLLECTION)
    now = milliseconds(api.mongo.clock.now()) - 1000 * PAGE
    documents = []
    for number in range(2 * PAGE):
        begins = now + 100 * number
        user = ANN if number % 50 == 0 else BEN
        kinds = [AuditKind.SIGNED_IN, *[AuditKind.ITEM_OPENED] * 3, AuditKind.SIGNED_OUT]
        entries = [Entry(begins + 200 * step, kind.value, user) for step, kind in enumerate(kinds)]
        documents.append(sealer.seal(entries, DAY))
    await collection.insert_many(documents)
    await collection.insert_one(sealer.seal([Entry(now - 10 * 86_400_000, "signed_in", ANN)], DAY))

    times = [entry.at for entry in await read(api)]
    assert (10 * PAGE, sorted(times)) == (len(times), times)
    since, until = (EPOCH + timedelta(milliseconds=now + offset) for offset in (550, 5000))
    some = await read(api, Selection(since, until, AuditKind.SIGNED_OUT))
    assert list(range(now + 800, now + 5000, 100)) == [entry.at for entry in some]
    assert 4 * 5 == len(await read(api, Selection(users=frozenset({ANN}))))
    assert [] == await read(api, Selection(users=frozenset()))


async def test_events_of_a_process_stay_in_order(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it was interrupted while it read the clocks, so that the time of an event is too early."""
    recorder, now = make(api), api.mongo.clock.now()
    for number, late in enumerate((0, 5, 2)):
        with monkeypatch.context() as patch:
            patch.setattr(api.mongo.clock, "now", lambda late=late: now - timedelta(milliseconds=late))
            recorder.record(opened(number))
            await recorder.flush()

    assert [0, 1, 2] == numbers(await read(api))


async def test_no_query_scans_the_collection(api: Api) -> None:
    """A span of time examines its own records, and a user those of the user."""
    sealer, collection = AuditSealer(read_key_ring(api.settings)), api.mongo.collection(COLLECTION)
    now = milliseconds(api.mongo.clock.now()) - 1_000_000
    users = [ANN if number % 100 == 0 else BEN for number in range(300)]
    await collection.insert_many(
        sealer.seal([Entry(now + 2000 * number, "signed_in", user)], DAY) for number, user in enumerate(users)
    )
    span = {"_id": {"$gt": first_id(now + 20_000), "$lt": first_id(now + 40_000)}}
    mine = {"_id": {"$gt": first_id(0), "$lt": first_id(2 * now)}, "user_index": {"$in": list(sealer.index(ANN))}}
    for query, index, found in ((span, "_id_", 10), (mine, "user_index", 3)):
        find = {"find": COLLECTION, "filter": query, "hint": index, "sort": {"_id": 1}, "limit": PAGE}
        told = await api.mongo.database.command({"explain": find, "verbosity": "executionStats"})
        statistics = told["executionStats"]

        assert (found, found) == (statistics["nReturned"], statistics["totalDocsExamined"])
        assert "SORT'" not in str(told["queryPlanner"]["winningPlan"])


async def test_records_move_to_a_new_key(serve: Serve) -> None:
    """Before and after, a search by user finds them; then no record needs the old key."""
    old, new = new_key(), new_key()
    api = await serve(keys=SecretStr(f"{new},{old}"), audit_ttl=0)
    before, both, after = (KeyRing.parse(text) for text in (old, f"{new},{old}", new))
    recorder = make(api, ring=before)
    recorder.record(AuditEvent(kind=AuditKind.USER_DISABLED, user_id=ANN, by=BEN))
    await recorder.flush()
    resealing = Resealing(api.mongo, both, RESEALABLE, EXPIRING)

    async def may_be_dropped() -> list[bool]:
        uses = await resealing.uses()
        return [uses.may_be_dropped(use) for use in uses.keys]

    for user in (ANN, BEN):
        assert 1 == len(await read(api, Selection(users=frozenset({user})), both))
    assert [False, False] == await may_be_dropped()
    await resealing.run(lambda *_: None)
    assert [False, True] == await may_be_dropped()
    for user in (ANN, BEN):
        assert 1 == len(await read(api, Selection(users=frozenset({user})), after))


async def test_a_changed_record_is_left_out(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """Moved to another time or altered, it does not open; the others are read."""
    recorder = make(api)
    for number in range(3):
        recorder.record(opened(number))
        await recorder.flush()
        await asyncio.sleep(0.002)
    collection = api.mongo.collection(COLLECTION)
    first, second, _ = await collection.find().sort("_id", 1).to_list(None)
    await collection.delete_one({"_id": first["_id"]})
    moved = (int.from_bytes(first["_id"][:8], "big") + 1).to_bytes(8, "big") + first["_id"][8:]
    await collection.insert_one({**first, "_id": moved})
    await collection.update_one({"_id": second["_id"]}, {"$set": {"envelope": altered(second["envelope"])}})

    assert [2] == numbers(await read(api))
    assert moved.hex() in capsys.readouterr().out
