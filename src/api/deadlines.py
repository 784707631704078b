"""Time limits of requests. All share one timer: `asyncio.timeout` costs several times as much for each request."""

import asyncio
import time
from types import TracebackType

LONGEST_STEP = 0.25
"""Seconds by which a request may exceed its time limit, at most."""
_STEPS = 20
"""Checks within a short time limit."""


class Deadline:
    """Limits the time of a block, which must run in one task. Raises `TimeoutError` like `asyncio.timeout`."""

    __slots__ = ("_end", "_is_over", "_open", "_task")

    def __init__(self, task: "asyncio.Task[object]", end: float, open_deadlines: "set[Deadline]") -> None:
        self._end: float | None = end  # seconds of the monotonic clock; None without a limit
        self._task = task
        self._open = open_deadlines
        self._is_over = False

    def allow(self, seconds: float) -> None:
        """Let the block take at least this time from now."""
        if self._end is not None:
            self._end = max(self._end, time.monotonic() + seconds)

    def lift(self) -> None:
        """Remove the limit."""
        self._end = None

    def check(self, now: float) -> None:
        """Cancel the task once if its time is over."""
        if self._end is not None and self._end <= now and not self._is_over:
            self._is_over = True
            self._task.cancel()

    def __enter__(self) -> None:
        self._open.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._open.discard(self)
        # If somebody else has cancelled the task as well, it stays cancelled.
        if self._is_over and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise TimeoutError from error


class Deadlines:
    """The deadlines of all requests that a process is handling; ``seconds`` is the time limit of each."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._step = min(seconds / _STEPS, LONGEST_STEP)
        self._open: set[Deadline] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> Deadline:
        """Return a deadline for a block of the current task."""
        # With the loop, asyncio need not find it, which takes a system call.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None  # noqa: S101 (a request is handled in a task)
        if self._timer is None:
            self._timer = loop.call_later(self._step, self._check, loop)
        return Deadline(task, time.monotonic() + self._seconds, self._open)

    def _check(self, loop: asyncio.AbstractEventLoop) -> None:
        now = time.monotonic()
        for deadline in self._open:
            deadline.check(now)
        self._timer = loop.call_later(self._step, self._check, loop) if self._open else None
