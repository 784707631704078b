"""Stdin as it comes, for an event loop: a pipe, a terminal, or a file."""

import asyncio
import os

READ = 64 * 1024
"""Bytes at once; a pipe holds no more."""


class StandardInput:
    """Reads from a descriptor, and nothing before it is asked to: what is not read stays where it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def wait(self, seconds: float | None = None) -> bool:
        """Wait until something can be read, or it has ended; False after so many ``seconds`` without that."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        try:
            loop.add_reader(self._descriptor, ready.set)
        except PermissionError:
            # A file can always be read.
            await asyncio.sleep(0)
            return True
        try:
            async with asyncio.timeout(seconds):
                await ready.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._descriptor)
        return True

    def read(self) -> bytes:
        """Return what is there, at least a byte; nothing at its end."""
        return os.read(self._descriptor, READ)
