"""Work that goes on in the background as long as the process lives."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from ..errors import Unavailable

log = structlog.get_logger(__name__)


async def repeat(work: Callable[[], Awaitable[None]], *, every: float) -> None:
    """Do the work now and again ``every`` so many seconds, whatever it fails with, until cancelled."""
    while True:
        try:
            await work()
        except Unavailable:
            pass  # logged where it happened; the next round comes
        except Exception as error:  # noqa: BLE001 (the next round may do better, and somebody must read of this one)
            log.error("background work failed", work=work.__qualname__, error=type(error).__name__)
        await asyncio.sleep(every)
