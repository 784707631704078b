"""Group commit: concurrent requests share one command.

While a command is in flight, the requests that arrive queue; when it returns, all that queued goes out as the next one.
There is no timer, so a lone request waits for nothing, and under load the batches grow by themselves to what the
database keeps up with. Between two batches the event loop makes a few passes, so that what has already arrived goes
along: under load that doubles a batch, and it costs microseconds. (The idea is the one by which databases share one log
flush among transactions: DeWitt et al., "Implementation Techniques for Main Memory Database Systems", SIGMOD 1984,
section 5.2.)
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

from ...errors import Unavailable
from ..metrics import Metrics

GATHERING_PASSES = 3

Request = TypeVar("Request")
Result = TypeVar("Result")
Request_contra = TypeVar("Request_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

Command = Callable[[Sequence[Request]], Awaitable[Sequence[Result | Exception]]]
"""Carries out a batch; returns one result, or the exception to raise, for each request, in their order."""


class Committer(Protocol[Request_contra, Result_co]):
    """What turns one request into its share of a command."""

    async def submit(self, request: Request_contra) -> Result_co:
        """Return the request's own result, or raise its own error."""

    async def close(self) -> None:
        """Wait until nothing is queued or in flight."""


class Batching(Protocol):
    """How a feature's commands are shared; made in one place, so that all of them are bounded alike."""

    def __call__(
        self,
        name: str,
        command: Command[Request, Result],
        *,
        key: Callable[[Request], Hashable] | None = None,
        abandoned: Callable[[Request, Result], None] | None = None,
    ) -> Committer[Request, Result]:
        """Return a committer for one command; the arguments are those of `GroupCommit`."""


class _Entry(NamedTuple, Generic[Request, Result]):
    request: Request
    answer: asyncio.Future[Result]


class GroupCommit(Generic[Request, Result]):
    """Collects concurrent requests into batches for one command, at most one of them in flight.

    ``name`` is what metrics call the command. ``key`` names what two requests of one batch must not share; the later
    one waits for the next batch. ``abandoned`` is told of each result that its requester, who was cancelled, has not
    taken.
    """

    def __init__(
        self,
        name: str,
        command: Command[Request, Result],
        *,
        max_batch: int,
        max_queue: int,
        key: Callable[[Request], Hashable] | None = None,
        abandoned: Callable[[Request, Result], None] | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        metrics = metrics or Metrics.off()
        self._sizes = metrics.batch_requests.child(name)
        self._depth = metrics.batch_queue_depth.child(name)
        self._command = command
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._key = key
        self._abandoned = abandoned
        self._queue: deque[_Entry[Request, Result]] = deque()
        self._running: asyncio.Task[None] | None = None

    async def submit(self, request: Request) -> Result:
        """Return the request's own result, or raise its own error.

        Raises `Unavailable` at once when the queue is full. A request that is cancelled while it queues is never
        carried out.
        """
        if len(self._queue) >= self._max_queue:
            raise Unavailable("Too much is waiting to be stored. Try again after the seconds in Retry-After.")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Entry(request, answer))
        self._depth.set(len(self._queue))
        if self._running is None:
            # An empty context: the batch serves many requests, so it must not log under the id of the first one.
            self._running = asyncio.create_task(self._run(), context=contextvars.Context())
        try:
            return await answer
        except asyncio.CancelledError:
            # Both in one pass of the event loop: first the answer came, and before anyone took it, the cancellation.
            if answer.done() and not answer.cancelled() and not answer.exception():
                self._hand_on(request, answer.result())
            raise

    async def close(self) -> None:
        """Wait until nothing is queued or in flight."""
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _run(self) -> None:
        batch: list[_Entry[Request, Result]] = []
        try:
            while batch := self._take():
                self._sizes.observe(len(batch))
                self._deliver(batch, await self._carry_out(batch))
                await self._gather()
        finally:
            self._running = None
            # Only a cancelled event loop gets here with requests left: nobody may wait for them for ever.
            for entry in (*batch, *self._queue):
                entry.answer.cancel()
            self._queue.clear()
            self._depth.set(0)

    async def _gather(self) -> None:
        """Let requests that have reached this process already join the next batch.

        Each pass of the event loop takes a step with all of them (reading, parsing, submitting); no time is waited for.
        """
        for _ in range(GATHERING_PASSES):
            if not self._queue:
                return
            await asyncio.sleep(0)

    def _take(self) -> list[_Entry[Request, Result]]:
        batch: list[_Entry[Request, Result]] = []
        held: list[_Entry[Request, Result]] = []
        seen: set[Hashable] = set()
        while self._queue and len(batch) < self._max_batch:
            entry = self._queue.popleft()
            if entry.answer.done():
                continue
            if self._key is not None:
                key = self._key(entry.request)
                if key in seen:
                    held.append(entry)
                    continue
                seen.add(key)
            batch.append(entry)
        self._queue.extendleft(reversed(held))
        self._depth.set(len(self._queue))
        return batch

    async def _carry_out(self, batch: Sequence[_Entry[Request, Result]]) -> Sequence[Result | Exception]:
        try:
            results = await self._command([entry.request for entry in batch])
        except Exception as error:  # noqa: BLE001 (whatever it is, each requester is told)
            return [error] * len(batch)
        if len(results) != len(batch):
            return [RuntimeError("the command answered another number of requests than it was given")] * len(batch)
        return results

    def _deliver(self, batch: Sequence[_Entry[Request, Result]], results: Sequence[Result | Exception]) -> None:
        for entry, result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                if not entry.answer.done():
                    entry.answer.set_exception(result)
            elif not entry.answer.done():
                entry.answer.set_result(result)
            else:
                self._hand_on(entry.request, result)

    def _hand_on(self, request: Request, result: Result) -> None:
        if self._abandoned is not None:
            self._abandoned(request, result)


def group_commit(*, max_batch: int, max_queue: int, metrics: Metrics | None = None) -> Batching:
    """Return the way of sharing commands in which each command has a queue of its own with these bounds."""

    def batching(
        name: str,
        command: Command[Request, Result],
        *,
        key: Callable[[Request], Hashable] | None = None,
        abandoned: Callable[[Request, Result], None] | None = None,
    ) -> Committer[Request, Result]:
        return GroupCommit(
            name, command, max_batch=max_batch, max_queue=max_queue, key=key, abandoned=abandoned, metrics=metrics
        )

    return batching
