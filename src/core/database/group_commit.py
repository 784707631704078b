"""Group commit: concurrent requests share one command.

While a command is in flight, new requests queue; when it returns, all queued requests are sent as the next command.
There is no timer: a single request does not wait, and under load the batches grow to the size that the database can
keep up with. Before each batch the event loop makes a few passes, so that requests that have already arrived join the
batch; under load this doubles a batch and costs microseconds. Databases flush one log for several transactions in the
same way: DeWitt et al., "Implementation Techniques for Main Memory Database Systems", SIGMOD 1984, section 5.2.
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
"""Executes a batch, and returns for each request, in order, its result or the exception to raise."""


class Committer(Protocol[Request_contra, Result_co]):
    """Executes requests as parts of shared commands."""

    async def submit(self, request: Request_contra) -> Result_co:
        """Return the request's own result, or raise its own error."""

    async def close(self) -> None:
        """Wait until nothing is queued or in flight."""


class Batching(Protocol):
    """Creates committers, all with the same bounds."""

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
    """Collects concurrent requests into batches for one command; at most one batch is in flight.

    ``name`` is the command's name in metrics. Two requests with the same ``key`` never share a batch; the later one
    joins the next. ``abandoned`` is called with each result whose requester was cancelled before it received it.
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

        Raises `Unavailable` at once if the queue is full. A request that is cancelled while it is queued is never
        executed.
        """
        if len(self._queue) >= self._max_queue:
            raise Unavailable("The write queue is full. Try again after the delay in Retry-After.")
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.append(_Entry(request, answer))
        self._depth.set(len(self._queue))
        if self._running is None:
            # An empty context: the batch serves many requests, so it must not log under the id of the first one.
            self._running = asyncio.create_task(self._run(), context=contextvars.Context())
        try:
            return await answer
        except asyncio.CancelledError:
            # Both happened in one pass of the event loop: the result arrived, then the cancellation.
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
            await self._gather()
            while batch := self._take():
                self._sizes.observe(len(batch))
                self._deliver(batch, await self._carry_out(batch))
                await self._gather()
        finally:
            self._running = None
            # Requests are left only if the event loop is cancelled; their callers must not wait for ever.
            for entry in (*batch, *self._queue):
                entry.answer.cancel()
            self._queue.clear()
            self._depth.set(0)

    async def _gather(self) -> None:
        """Let requests that have already reached this process join the next batch, unless nothing is queued.

        Each pass of the event loop advances all of them by a step (reading, parsing, submitting) without waiting.
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
        except Exception as error:  # noqa: BLE001 (each requester gets the error)
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
    """Return a `Batching` in which each command has its own queue with these bounds."""

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
