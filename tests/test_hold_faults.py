"""Held openings under faults at every await: the reader who asks again gets the text, and no second reader does."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from src.api.origin import Origin
from src.core.audit import NOT_RECORDED
from src.core.clock import utc_now
from src.core.crypto.hashing import HashingPool
from src.core.crypto.keys import read_key_ring
from src.core.database.group_commit import group_commit
from src.core.metrics import Metrics
from src.errors import TooMany, Unavailable
from src.sealed.feature import SealedFeature
from src.sealed.problems import KeyNotFound
from src.sealed.service import OpenedSecret, SecretService

from .conftest import Api
from .processes import PATIENCE
from .secret_files import create
from .uploads import storage_of

COMMANDS = {
    *("find_one", "find_one_and_update", "insert_many", "update_one", "update_many", "bulk_write", "delete_many"),
    "to_list",
}


class Fault(StrEnum):
    """A fault at an await."""

    NOT_CARRIED_OUT = "error before the command"
    CARRIED_OUT = "error after the command"
    CARRIED_OUT_LATE = "error, and the command is carried out once the reader has asked again"
    CANCELLED_BEFORE = "request cancelled before the command"
    CANCELLED_AFTER = "request cancelled after the command"


@dataclass
class Faults:
    """Counts the awaits of a request, and injects a fault at one of them."""

    fault: Fault | None = None
    place: int = -1
    seen: list[str] = field(default_factory=list)
    request: asyncio.Task[Any] | None = None
    late: list[Callable[[], Awaitable[Any]]] = field(default_factory=list)
    is_on: bool = False

    async def step(self, name: str, command: Callable[[], Awaitable[Any]]) -> Any:
        """Execute a command, with the fault if this is its place."""
        if not self.is_on:
            return await command()
        self.seen.append(name)
        if len(self.seen) - 1 != self.place:
            return await command()
        match self.fault:
            case Fault.NOT_CARRIED_OUT:
                raise self._error(name)
            case Fault.CARRIED_OUT_LATE:
                self.late.append(command)
                raise self._error(name)
            case Fault.CARRIED_OUT:
                await command()
                raise self._error(name)
            case Fault.CANCELLED_BEFORE:
                self._cancel()
                await asyncio.sleep(0)
                return await command()
            case Fault.CANCELLED_AFTER:
                result = await command()
                self._cancel()
                return result
        raise AssertionError

    @staticmethod
    def _error(name: str) -> Exception:
        return Unavailable() if name == "hash" else AutoReconnect("connection closed")

    def _cancel(self) -> None:
        assert self.request
        self.request.cancel()

    async def carry_out_late(self) -> None:
        """Carry out the commands that were delayed; their senders are gone."""
        for command in self.late:
            try:
                await command()
            except Exception:  # noqa: BLE001 (nobody waits for the outcome)
                pass


class FaultyCollection:
    """A collection whose commands may fail."""

    def __init__(self, collection: Any, faults: Faults) -> None:
        self._collection = collection
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._collection, name)
        if name not in COMMANDS:
            return found

        async def command(*arguments: Any, **options: Any) -> Any:
            return await self._faults.step(name, lambda: found(*arguments, **options))

        return command

    def find(self, *arguments: Any, **options: Any) -> Any:
        """Return a cursor whose reply may be lost."""
        return FaultyCollection(self._collection.find(*arguments, **options), self._faults)

    def with_options(self, **options: Any) -> "FaultyCollection":
        """Return the same collection with other options."""
        return FaultyCollection(self._collection.with_options(**options), self._faults)


class FaultyMongo:
    """The real database, with faults."""

    def __init__(self, api: Api, faults: Faults) -> None:
        self._mongo, self._faults = api.mongo, faults
        self.clock = api.mongo.clock

    def collection(self, name: str) -> Any:
        """Return a collection."""
        return FaultyCollection(self._mongo.collection(name), self._faults)


class FaultyHashing:
    """The real pool, with faults."""

    def __init__(self, pool: HashingPool, faults: Faults) -> None:
        self._pool, self._faults = pool, faults

    async def run(self, *arguments: Any) -> Any:
        """Run a job."""
        return await self._faults.step("hash", lambda: self._pool.run(*arguments))


@dataclass
class Worker:
    """A worker with faults, and its service."""

    service: SecretService
    feature: SealedFeature
    faults: Faults

    async def request(self, work: Awaitable[Any]) -> Any:
        """Carry out a request with the fault, and return its result, or the exception that ended it."""
        task = asyncio.ensure_future(work)
        self.faults.request, self.faults.is_on = task, True
        await asyncio.wait([task], timeout=PATIENCE)
        # Nothing that this request has started may be undone only because the test goes on.
        self.faults.is_on = False
        assert task.done()
        if task.cancelled():
            return asyncio.CancelledError()
        return task.exception() or task.result()


@contextmanager
def hashing_pool() -> Iterator[HashingPool]:
    pool = HashingPool(threads=2, queue=50, longest_wait=PATIENCE)
    yield pool
    pool.close()


def worker_of(api: Api, pool: HashingPool, fault: Fault | None = None, place: int = -1) -> Worker:
    """Return a worker on the database of a server."""
    faults = Faults(fault, place)
    metrics = Metrics.off()
    feature = SealedFeature(
        settings=api.settings,
        ring=read_key_ring(api.settings),
        mongo=FaultyMongo(api, faults),  # type: ignore[arg-type]
        hashing=FaultyHashing(pool, faults),  # type: ignore[arg-type]
        batching=group_commit(max_batch=10, max_queue=100),
        storage=storage_of(api),
        origin=Origin(api.settings),
        audit=NOT_RECORDED,
        metrics=metrics,
    )
    return Worker(feature._parts[0]._service, feature, faults)


async def until_answered(service: SecretService, key: str, phrase: str | None, reader: bytes) -> Any:
    """Ask until there is an answer, as a client does, and return it or `KeyNotFound`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await service.open(key, phrase, reader)
            except KeyNotFound as error:
                return error
            except (Unavailable, TooMany):
                await asyncio.sleep(0.02)


async def content_left(api: Api) -> int:
    """Return the number of documents with content, in all collections."""
    items = await api.items.count_documents({"envelope": {"$exists": True}})
    others = [await api.mongo.collection(name).count_documents({}) for name in ("held", "chunks")]
    return int(items + sum(others))


WITH_FILES: list[dict[str, Any]] = [
    {"contents": [b"content"]},
    {"contents": [b"content"], "phrase": "p", "max_attempts": 1},
    {"contents": [b"content"], "max_opens": 2},
]
CASES: list[dict[str, Any]] = [{}, {"phrase": "p", "max_attempts": 1}, {"max_opens": 2}, *WITH_FILES[1:]]
FAULTS = list(Fault)


async def created_with(api: Api, fields: dict[str, Any]) -> Any:
    """Create a secret, with files if there are contents."""
    return await create(api, **fields) if "contents" in fields else await api.create("the text", **fields)


async def places_of(api: Api, pool: HashingPool, fields: dict[str, Any], *, again: bool) -> list[str]:
    """Return the awaits of an opening, or of asking again."""
    worker = worker_of(api, pool)
    key, reader = (await created_with(api, fields))["secret_key"], secrets.token_bytes(32)
    if again:
        await worker.service.open(key, fields.get("phrase"), reader)
    result = await worker.request(worker.service.open(key, fields.get("phrase"), reader))

    assert isinstance(result, OpenedSecret)
    return worker.faults.seen


@pytest.mark.parametrize("fields", CASES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_the_reader_learns_the_outcome_of_an_opening(api: Api, fault: Fault, fields: dict[str, Any]) -> None:
    """After a fault at any await, asking again gets the text; a second reader gets none, and nothing is left."""
    phrase = fields.get("phrase")
    with hashing_pool() as pool:
        places = await places_of(api, pool, fields, again=False)
        assert len(places) >= 3
        for place in range(len(places)):
            for name in ("held", "items", "chunks"):
                await api.mongo.collection(name).delete_many({})
            created = await created_with(api, fields)
            key, reader = created["secret_key"], secrets.token_bytes(32)
            worker, healthy = worker_of(api, pool, fault, place), worker_of(api, pool)

            first = await worker.request(worker.service.open(key, phrase, reader))
            again = await until_answered(healthy.service, key, phrase, reader)
            await worker.faults.carry_out_late()
            await worker.feature.close()
            once_more = await until_answered(healthy.service, key, phrase, reader)
            others = [
                await until_answered(healthy.service, key, phrase, secrets.token_bytes(32))
                for _ in range(fields.get("max_opens", 1))
            ]

            where = (fault, places[place], place, first)
            assert isinstance(again, OpenedSecret), where
            assert ("the text", again) == (again.secret, once_more), where
            if isinstance(first, OpenedSecret):
                assert first == again, where
            assert fields.get("max_opens", 1) - 1 == sum(isinstance(one, OpenedSecret) for one in others), where
            checks = (await api.items.find_one())["checks"] if phrase else []
            assert [] == checks, where

            await healthy.service.receive(key, reader)
            assert isinstance(await until_answered(healthy.service, key, phrase, reader), KeyNotFound), where
            if "max_opens" in fields:
                await api.call("DELETE", f"/receipts/{created['receipt_key']}")
            # The copy that a command left behind which arrived after everything else is useless, and expires.
            if fault is not Fault.CARRIED_OUT_LATE:
                assert 0 == await content_left(api), where
            await healthy.feature.close()


@pytest.mark.parametrize("fields", CASES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_of_two_readers_one_has_the_text(api: Api, fault: Fault, fields: dict[str, Any]) -> None:
    """A rival opens while the first reader meets the fault: each gets the text or 404, and never more than allowed."""
    phrase = fields.get("phrase")
    allowed = fields.get("max_opens", 1)
    with hashing_pool() as pool:
        places = await places_of(api, pool, fields, again=False)
        for place in range(len(places)):
            created = await created_with(api, fields)
            key, readers = created["secret_key"], [secrets.token_bytes(32) for _ in range(allowed + 1)]
            worker, healthy = worker_of(api, pool, fault, place), worker_of(api, pool)

            first, *rivals = await asyncio.gather(
                worker.request(worker.service.open(key, phrase, readers[0])),
                *(until_answered(healthy.service, key, phrase, reader) for reader in readers[1:]),
            )
            await worker.faults.carry_out_late()
            results = [await until_answered(healthy.service, key, phrase, reader) for reader in readers]
            await worker.feature.close()

            where = (fault, places[place], first, rivals, results)
            assert allowed == sum(isinstance(one, OpenedSecret) for one in results), where
            # What was told stays true.
            for before, after in zip([first, *rivals], results, strict=True):
                if isinstance(before, OpenedSecret):
                    assert before == after, where
                if isinstance(before, KeyNotFound):
                    assert isinstance(after, KeyNotFound), where
            await healthy.feature.close()


@pytest.mark.parametrize("fields", CASES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_asking_again_may_fail_and_be_repeated(api: Api, fault: Fault, fields: dict[str, Any]) -> None:
    """After a fault at any await of the second request, the third gets the same."""
    phrase = fields.get("phrase")
    with hashing_pool() as pool:
        places = await places_of(api, pool, fields, again=True)
        assert len(places) >= 3
        for place in range(len(places)):
            created = await created_with(api, fields)
            key, reader = created["secret_key"], secrets.token_bytes(32)
            worker, healthy = worker_of(api, pool, fault, place), worker_of(api, pool)
            opened = await healthy.service.open(key, phrase, reader)

            second = await worker.request(worker.service.open(key, phrase, reader))
            third = await until_answered(healthy.service, key, phrase, reader)
            await worker.faults.carry_out_late()
            await worker.feature.close()
            fourth = await until_answered(healthy.service, key, phrase, reader)

            where = (fault, places[place], second)
            assert second == opened or isinstance(second, Unavailable | asyncio.CancelledError), where
            assert [opened, opened] == [third, fourth], where
            receipt = (await api.call("GET", f"/receipts/{created['receipt_key']}"))[1]
            assert fields.get("max_opens", 1) - 1 == receipt["opens_left"], where
            assert 0 == receipt["late_attempts"], where
            await healthy.feature.close()


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("burn", [False, True])
@pytest.mark.parametrize("fields", [{}, WITH_FILES[0]])
async def test_received_and_a_burn_under_faults(api: Api, fault: Fault, burn: bool, fields: dict[str, Any]) -> None:
    """Repeated after a fault at any await, they end the hold, and delete the copy; a sweep erases the files at last."""
    with hashing_pool() as pool:
        for place in range(5 if fields else 3):
            await api.mongo.collection("held").delete_many({})
            created = await created_with(api, fields)
            key, reader = created["secret_key"], secrets.token_bytes(32)
            worker, healthy = worker_of(api, pool, fault, place), worker_of(api, pool)
            opened = await healthy.service.open(key, None, reader)

            def end(
                one: Worker, *, key: str = key, receipt: str = created["receipt_key"], reader: bytes = reader
            ) -> Any:
                if burn:
                    return one.feature._parts[2]._service.burn(receipt)
                return one.service.receive(key, reader)

            first = await worker.request(end(worker))
            if first is not None:
                assert isinstance(first, Unavailable | asyncio.CancelledError)
                assert opened == await until_answered(healthy.service, key, None, reader) or fault is not (
                    Fault.NOT_CARRIED_OUT
                )
                # If the first burn was carried out, the second one gets 404.
                with suppress(*([KeyNotFound] if burn else [])):
                    await end(healthy)
            await worker.faults.carry_out_late()
            await worker.feature.close()
            await healthy.feature.close()
            await healthy.feature._ended_files.sweep()

            assert isinstance(await until_answered(healthy.service, key, None, reader), KeyNotFound)
            assert 0 == await content_left(api), (fault, place, worker.faults.seen)


@pytest.mark.parametrize("fields", [{"phrase": "p", "max_attempts": 1}, *WITH_FILES])
@pytest.mark.parametrize("fault", FAULTS)
async def test_no_fault_keeps_an_opening_without_a_key(api: Api, fault: Fault, fields: dict[str, Any]) -> None:
    """Without a reader's key: an opening or attempt whose outcome is unknown is given back, whatever failed."""
    phrase = fields.get("phrase")
    with hashing_pool() as pool:
        worker = worker_of(api, pool)
        key = (await created_with(api, fields))["secret_key"]
        await worker.request(worker.service.open(key, phrase))
        assert len(worker.faults.seen) >= 3
        for place in range(len(worker.faults.seen)):
            await api.items.delete_many({})
            key = (await created_with(api, fields))["secret_key"]
            worker, healthy = worker_of(api, pool, fault, place), worker_of(api, pool)

            first = await worker.request(worker.service.open(key, phrase))
            await worker.feature.close()
            await worker.faults.carry_out_late()

            where = (fault, place, worker.faults.seen, first)
            opened = [first] if isinstance(first, OpenedSecret) else []
            left = fields.get("max_opens", 1) - len(opened)
            opened += [await healthy.service.open(key, phrase) for _ in range(left)]
            with pytest.raises(KeyNotFound):
                await healthy.service.open(key, phrase)
            assert ["the text"] * len(opened) == [one.secret for one in opened], where
            if "contents" in fields:
                item = await api.items.find_one()
                assert len(opened) == len(item["holds"]) == len(item["claims"]), where
                for one in opened:
                    assert one.reader_key, where
                    assert one.held_until, where
                    [(file, _)] = one.files
                    await healthy.feature.files.find(key, one.reader_key, file.upload_id)
            await healthy.feature.close()


@pytest.mark.parametrize("is_burned", [False, True])
async def test_an_opening_is_not_given_back_once_its_files_may_be_erased(api: Api, is_burned: bool) -> None:
    """A database that stays away until the hold has ended: the secret counts as opened, and none lacks its files."""
    created = await create(api)
    with hashing_pool() as pool:
        worker, healthy = worker_of(api, pool, Fault.CARRIED_OUT, 2), worker_of(api, pool)
        give_back, is_away = worker.feature._claims._give_back, asyncio.Event()

        async def later(*arguments: Any) -> None:
            await is_away.wait()
            await give_back(*arguments)

        worker.feature._claims._give_back = later  # type: ignore[method-assign, assignment]
        assert isinstance(await worker.request(worker.service.open(created["secret_key"], None)), Unavailable)
        assert "opened" == await api.state(created["receipt_key"])

        past = utc_now() - timedelta(seconds=1)
        await api.items.update_one({}, {"$set": {"files_until": past, "holds.$[].until": past}})
        if is_burned:
            assert 404 == (await api.call("DELETE", f"/receipts/{created['receipt_key']}"))[0]
        await healthy.feature._ended_files.sweep()
        is_away.set()
        await worker.feature.close()

        assert ("burned" if is_burned else "opened") == await api.state(created["receipt_key"])
        assert 404 == (await api.open(created["secret_key"]))[0]
        assert 0 == await content_left(api)
        await healthy.feature.close()
