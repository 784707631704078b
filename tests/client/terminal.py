"""A terminal with somebody at it, for the client in this process or as a process of its own."""

import asyncio
import codecs
import fcntl
import os
import pty
import re
import select
import struct
import termios
from types import TracebackType
from typing import Self

from ..processes import PATIENCE

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Both ends of a pseudo-terminal; what the program writes gathers in ``screen``."""

    def __init__(self, columns: int = 120) -> None:
        self._outer, self.inner = pty.openpty()
        self.path = os.ttyname(self.inner)
        fcntl.ioctl(self.inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.raw = ""
        # A read may end within a character.
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._seen = 0
        self._grown = asyncio.Event()

    @property
    def screen(self) -> str:
        """What has been written, without colours."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._outer, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._outer)
        os.close(self._outer)
        os.close(self.inner)

    async def expect(self, text: str) -> None:
        """Wait until a text is written after what was expected before."""
        async with asyncio.timeout(PATIENCE):
            while (place := self.screen.find(text, self._seen)) < 0:
                self._grown.clear()
                await self._grown.wait()
        self._seen = place + len(text)

    async def type(self, text: str, *, hidden: bool = False) -> None:
        """Type, once the program has switched the echo on or off as it has to."""
        async with asyncio.timeout(PATIENCE):
            while bool(termios.tcgetattr(self.inner)[3] & termios.ECHO) == hidden:
                await asyncio.sleep(0.01)
        os.write(self._outer, text.encode(errors="surrogateescape"))

    def read_on(self) -> None:
        """Read what is there already."""
        while select.select([self._outer], [], [], 0)[0]:
            self._read()

    def _read(self) -> None:
        self.raw += self._decoder.decode(os.read(self._outer, 65536))
        self._grown.set()
