"""Byte budgets: how much each caller may store in a window of time, over all workers."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime

from .clock import utc_now
from .limits import Limit, LimitReached

MOST_SUBJECTS = 10_000
LARGEST_BLOCK = 1024 * 1024
SMALLEST_BLOCK_SHARE = 100


@dataclass
class _Block:
    """Bytes that are counted in MongoDB and not spent yet; they lapse with the window that they are counted in."""

    left: int = 0
    window: datetime | None = None
    reserving: asyncio.Lock = field(default_factory=asyncio.Lock)


class ByteBudget:
    """A limit on bytes, reserved in blocks so that most requests need no command.

    A block is 1 MiB, or a hundredth of a budget under 100 MiB. The budget is never exceeded in a window of MongoDB's
    clock, apart from the difference between that clock and this process's. It can fall short by one block for each
    other worker that has served the subject: a block is not shared. For a subject that one of the others pushes out of
    memory, which holds the last 10,000, the rest of a block is lost as well.
    """

    def __init__(self, limit: Limit, budget: int) -> None:
        self._limit = limit
        self._block = max(1, min(LARGEST_BLOCK, budget // SMALLEST_BLOCK_SHARE))
        self._blocks: OrderedDict[str, _Block] = OrderedDict()

    async def spend(self, subject: str, size: int) -> None:
        """Spend so many bytes of a subject's budget. Raises `LimitReached`, having spent nothing, and `Unavailable`."""
        block = self._block_of(subject)
        # One request of a subject reserves at a time: the ones that arrive meanwhile may share its block.
        async with block.reserving:
            if block.window is None or block.window <= utc_now():
                block.left = 0
            if size > block.left:
                await self._reserve(subject, block, size - block.left)
            block.left -= size

    async def _reserve(self, subject: str, block: _Block, missing: int) -> None:
        amount = max(missing, self._block)
        try:
            window = await self._limit.spend(subject, amount)
        except LimitReached:
            if amount == missing:
                raise
            # The rest of the budget may be less than a block, and enough.
            amount = missing
            window = await self._limit.spend(subject, amount)
        # What is left of an earlier window has lapsed; the request stores a little more than it has spent.
        block.left += amount
        block.window = window

    def _block_of(self, subject: str) -> _Block:
        block = self._blocks.setdefault(subject, _Block())
        self._blocks.move_to_end(subject)
        if len(self._blocks) > MOST_SUBJECTS:
            self._blocks.popitem(last=False)
        return block
