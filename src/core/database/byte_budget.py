"""Byte budgets: how much each caller may store in a window of time, over all workers."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from ..clock import DatabaseClock
from ..metrics import NOTHING, Counter
from .limits import Limit, LimitReached

MOST_SUBJECTS = 10_000
LARGEST_BLOCK = 1024 * 1024
BLOCKS = 100
SPENT = "You have stored as much as you may for now. Try again after the seconds in Retry-After."


@dataclass
class _Block:
    """Bytes that are counted in MongoDB and not spent yet; they lapse with the window that they are counted in."""

    left: int = 0
    window: datetime | None = None
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)


class ByteBudget:
    """A limit on the bytes that each subject stores, reserved in blocks so that most requests need no command.

    A block is 1 MiB, or a hundredth of a budget below 100 MiB. Blocks are counted before they are spent and lapse with
    their window, so the budget is exceeded by at most one request of each process, as a window ends. It falls short by
    at most one block for each other process that serves the subject, and by the rest of a block for a subject that has
    left memory, which holds the last 10,000. Bytes of a request that fails later stay spent.
    """

    def __init__(self, limit: Limit, clock: DatabaseClock, budget: int, refusals: Counter = NOTHING) -> None:
        self._limit = limit
        self._clock = clock
        self._block = max(1, min(LARGEST_BLOCK, budget // BLOCKS))
        self._refusals = refusals
        self._blocks: OrderedDict[str, _Block] = OrderedDict()

    async def spend(self, subject: str, size: int) -> None:
        """Spend so many bytes of a subject's budget. Raises `LimitReached`, having spent nothing, and `Unavailable`."""
        block = self._block_of(subject)
        # One request reserves at a time: those that arrive meanwhile may find enough in its block.
        async with block.reserving:
            if block.window is None or block.window <= self._clock.now():
                block.left = 0
            if size > block.left:
                await self._reserve(subject, block, size - block.left)
            block.left = max(0, block.left - size)

    async def _reserve(self, subject: str, block: _Block, missing: int) -> None:
        for amount in (max(missing, self._block), missing):
            try:
                window = await self._limit.spend(subject, amount)
            except LimitReached as error:
                # The rest of the budget may be less than a block, and enough.
                if amount > missing:
                    continue
                self._refusals.inc()
                raise LimitReached(SPENT, retry_after=int(error.headers["Retry-After"])) from None
            block.left = amount + (block.left if window == block.window else 0)
            block.window = window
            return

    def _block_of(self, subject: str) -> _Block:
        block = self._blocks.setdefault(subject, _Block())
        self._blocks.move_to_end(subject)
        if len(self._blocks) > MOST_SUBJECTS:
            self._blocks.popitem(last=False)
        return block
