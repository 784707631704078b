"""Stdin as it comes, for an event loop: a pipe, a terminal, or a file."""

import asyncio
import os

from ..encodings import Utf8Stream

READ = 64 * 1024
"""Bytes at once; a pipe holds no more."""


class StandardInput:
    """Reads from a descriptor, and nothing before it is asked to: what is not read stays where it is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._text = Utf8Stream()
        self.has_ended = False

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
        """Return the next bytes as UTF-8: none at the end, which sets ``has_ended``, and none for half a character."""
        data = os.read(self._descriptor, READ)
        self.has_ended = not data
        return self._text.feed(data, final=not data)

    def flush(self) -> bytes:
        """Return what `read` holds back: the bytes that are not a whole character, or byte order mark, yet."""
        return self._text.feed(b"", final=True)
