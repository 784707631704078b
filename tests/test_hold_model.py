"""Held openings against a model: readers with keys and without, files, faults, burns, confirmations and time."""

from collections.abc import Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from queue import SimpleQueue
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from src.core.clock import utc_now
from src.core.crypto.hashing import HashingPool
from src.sealed.problems import KeyNotFound
from src.sealed.service import OpenedSecret

from .conftest import Api
from .processes import PATIENCE
from .secret_files import create
from .test_hold_faults import Fault, hashing_pool, until_answered, worker_of

READERS = [b"a" * 32, b"b" * 32]
TEXT = "the text"
ACTIONS = [*["open"] * 6, "open without a key", *["crash"] * 4, "crash without a key", "receive", "receive"]
ACTIONS += ["burn", "end holds", "expire"]
# A late command leaves a copy that expires by itself; tests/test_hold_faults.py covers that.
FAULTS = [fault for fault in Fault if fault is not Fault.CARRIED_OUT_LATE]


Works = SimpleQueue[tuple[Coroutine[Any, Any, Any], Future[Any]] | None]


@dataclass
class Model:
    """What must be true of a secret."""

    max_opens: int
    opens_left: int
    phrase: str | None
    has_files: bool
    is_burned: bool = False
    is_expired: bool = False
    results: dict[bytes, OpenedSecret] = field(default_factory=dict)
    held: set[bytes] = field(default_factory=set)
    least_late: int = 0
    most_late: int = 0

    @property
    def is_waiting(self) -> bool:
        """Whether the next reader opens it."""
        return self.opens_left > 0 and not self.is_burned and not self.is_expired

    @property
    def is_opened(self) -> bool:
        """Whether its last opening was taken."""
        return self.opens_left == 0


class HeldOpenings(RuleBasedStateMachine):
    """A secret, requests on it, and the model."""

    api: Api
    pool: HashingPool
    works: Works

    def wait_for(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Carry out work on the event loop of the server."""
        answer: Future[Any] = Future()
        self.works.put((work, answer))
        return answer.result(PATIENCE)

    @initialize(max_opens=st.integers(1, 2), phrase=st.sampled_from([None, "p"]), has_files=st.booleans())
    def create(self, max_opens: int, phrase: str | None, has_files: bool) -> None:
        self.model = Model(max_opens, max_opens, phrase, has_files)
        self.wait_for(self._create())

    async def _create(self) -> None:
        for name in ("items", "held", "chunks"):
            await self.api.mongo.collection(name).delete_many({})
        phrase = {"phrase": self.model.phrase} if self.model.phrase else {}
        fields: dict[str, Any] = {"max_opens": self.model.max_opens, **phrase}
        if self.model.has_files:
            self.created = await create(self.api, [b"content"], secret=TEXT, **fields)
        else:
            self.created = await self.api.create(TEXT, **fields)
        self.healthy = worker_of(self.api, self.pool)

    @rule(
        action=st.sampled_from(ACTIONS),
        reader=st.sampled_from(READERS),
        fault=st.sampled_from(FAULTS),
        place=st.integers(0, 6),
    )
    def act(self, action: str, reader: bytes, fault: Fault, place: int) -> None:
        """One rule for all actions, so that readers act more often than the sender."""
        match action:
            case "open":
                self.open(reader)
            case "open without a key":
                self.open(None)
            case "crash":
                self.crash_and_retry(reader, fault, place)
            case "crash without a key":
                self.crash_without_a_key(fault, place)
            case "receive":
                self.receive(reader)
            case "burn":
                self.burn()
            case "end holds":
                self.end_holds()
            case "expire":
                self.expire()

    def open(self, reader: bytes | None) -> None:
        """A reader opens the secret, or asks again."""
        self.judge(reader, self.wait_for(self._ask(reader)))

    def crash_and_retry(self, reader: bytes, fault: Fault, place: int) -> None:
        """A reader's request meets a fault, and the reader asks again."""
        may_be_late = not self.model.is_waiting and reader not in self.model.results
        self.wait_for(self._crash(reader, fault, place))
        self.model.most_late += may_be_late
        self.judge(reader, self.wait_for(self._ask(reader)))

    def crash_without_a_key(self, fault: Fault, place: int) -> None:
        """A reader without a key gets the text, or leaves the secret as it was."""
        self.model.most_late += not self.model.is_waiting
        outcome = self.wait_for(self._crash(None, fault, place))
        if isinstance(outcome, OpenedSecret):
            assert self.model.is_waiting
            self.model.opens_left -= 1
            self.hold(None, outcome)

    def receive(self, reader: bytes) -> None:
        """A reader confirms the text, twice."""
        may = reader in self.model.results and not self.model.is_burned
        for _ in range(2):
            done = self.wait_for(self._try(self.healthy.service.receive(self.created["secret_key"], reader)))

            # MongoDB may have deleted the expired document.
            assert may == done or (self.model.is_expired and self.model.opens_left and not done)
        self.model.held.discard(reader)

    def burn(self) -> None:
        """The sender burns the secret."""
        may = self.model.is_waiting or bool(self.model.held)
        status, _ = self.wait_for(self.api.call("DELETE", f"/receipts/{self.created['receipt_key']}"))

        assert (204 if may else 404) == status
        self.model.is_burned |= may or self.model.is_opened
        self.model.held.clear()

    def end_holds(self) -> None:
        """The time of all holds passes."""
        self.wait_for(self._end_holds({}))
        self.model.held.clear()

    def expire(self) -> None:
        """The secret expires."""
        past = utc_now() - timedelta(seconds=1)
        delete_at = past if self.model.opens_left and not self.model.is_burned else past + timedelta(days=7)
        self.wait_for(self._end_holds({"expires_at": past, "delete_at": delete_at}))
        self.model.is_expired = True
        self.model.held.clear()

    @invariant()
    def nothing_more_is_stored(self) -> None:
        """A copy for each hold; and an envelope only of a secret that is waiting."""
        copies, items, chunks, receipt = self.wait_for(self._stored())

        assert len(self.model.held) == copies
        if self.model.has_files and not self.model.is_expired:
            assert bool(chunks) == (self.model.is_waiting or bool(self.model.held))
        assert items <= (self.model.opens_left > 0 and not self.model.is_burned)
        if not self.model.is_expired:
            waiting = "burned" if self.model.is_burned else "waiting"
            assert ("opened" if self.model.is_opened else waiting) == receipt["state"]
            assert self.model.least_late <= receipt["late_attempts"] <= self.model.most_late

    def judge(self, reader: bytes | None, outcome: Any) -> None:
        """Compare the outcome of a request with the model."""
        model = self.model
        if reader in model.results:
            assert outcome == model.results[reader] if reader in model.held else isinstance(outcome, KeyNotFound)
        elif model.is_waiting:
            model.opens_left -= 1
            assert (TEXT, model.opens_left) == (outcome.secret, outcome.opens_left)
            self.hold(reader, outcome)
        else:
            assert isinstance(outcome, KeyNotFound)
            is_late = model.is_opened
            model.least_late += is_late
            model.most_late += is_late

    def hold(self, reader: bytes | None, outcome: OpenedSecret) -> None:
        """Add an opening to the model if it is held: under the reader's own key, or the one that the server made."""
        assert (reader is None and self.model.has_files) == (outcome.reader_key is not None)
        if reader := reader or outcome.reader_key:
            self.model.results[reader] = replace(outcome, reader_key=None)
            self.model.held.add(reader)

    async def _ask(self, reader: bytes | None) -> Any:
        key, phrase = self.created["secret_key"], self.model.phrase
        return await until_answered(self.healthy.service, key, phrase, reader)  # type: ignore[arg-type]

    async def _crash(self, reader: bytes | None, fault: Fault, place: int) -> Any:
        worker = worker_of(self.api, self.pool, fault, place)
        outcome = await worker.request(worker.service.open(self.created["secret_key"], self.model.phrase, reader))
        await worker.feature.close()
        return outcome

    @staticmethod
    async def _try(work: Coroutine[Any, Any, None]) -> bool:
        try:
            await work
        except KeyNotFound:
            return False
        return True

    async def _end_holds(self, changes: dict[str, Any]) -> None:
        past = utc_now() - timedelta(seconds=1)
        await self.api.items.update_many({"holds": {"$exists": True}}, {"$set": {"holds.$[].until": past}})
        await self.api.items.update_many({"files_until": {"$exists": True}}, {"$set": {"files_until": past}})
        if changes:
            await self.api.items.update_many({}, {"$set": changes})
        await self.api.mongo.collection("held").update_many({}, {"$set": {"expires_at": past}})

    async def _stored(self) -> tuple[int, int, int, Any]:
        # The copy of an opening that was given back is useless, and may be stored after its deletion.
        item = await self.api.items.find_one() or {}
        known = {"_id": {"$in": item.get("claims", [])}} if self.model.has_files else {}
        copies = await self.api.mongo.collection("held").count_documents({"expires_at": {"$gt": utc_now()}, **known})
        await self.healthy.feature._ended_files.sweep()
        chunks = await self.api.mongo.collection("chunks").count_documents({})
        items = await self.api.items.count_documents({"envelope": {"$exists": True}})
        _, receipt = await self.api.call("GET", f"/receipts/{self.created['receipt_key']}")
        return copies, items, chunks, receipt


async def test_every_sequence_of_requests_is_as_in_the_model(api: Api) -> None:
    """No second reader, the same response again, and nothing left, whatever happens in whichever order."""
    with hashing_pool() as pool:
        works: Works = SimpleQueue()
        machine = type("Machine", (HeldOpenings,), {"api": api, "pool": pool, "works": works})
        few = settings(
            max_examples=40,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        )
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(run_state_machine_as_test, machine, settings=few)
            running.add_done_callback(lambda _: works.put(None))
            # The event loop stands still while Hypothesis chooses, which fails if other code draws random numbers then.
            while (asked := works.get()) is not None:
                work, answer = asked
                try:
                    answer.set_result(await work)
                except Exception as error:  # noqa: BLE001 (for the thread)
                    answer.set_exception(error)
            running.result()
