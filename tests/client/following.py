"""A client that follows a pipe, as a process of its own."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import programs
from ..conftest import PASSWORD
from ..processes import PATIENCE

USER = "web-1"


class Pipe:
    """A pipe whose both ends this process keeps: what a client has not read stays in it for the next one."""

    def __init__(self) -> None:
        self.outer, self.inner = os.pipe()
        os.set_blocking(self.inner, False)

    async def write(self, data: bytes) -> None:
        """Write all of it, as fast as it is read."""
        loop, room = asyncio.get_running_loop(), asyncio.Event()
        while data:
            try:
                data = data[os.write(self.inner, data) :]
            except BlockingIOError:
                room.clear()
                loop.add_writer(self.inner, room.set)
                async with asyncio.timeout(PATIENCE):
                    await room.wait()
                loop.remove_writer(self.inner)

    def end(self) -> None:
        """Let the input end."""
        if self.inner >= 0:
            os.close(self.inner)
            self.inner = -1

    def close(self) -> None:
        """Close what is open."""
        self.end()
        os.close(self.outer)


@dataclass
class Following:
    """A running `gather --follow --json`."""

    process: programs.Process
    said: list[str] = field(default_factory=list)
    _heard: asyncio.Event = field(default_factory=asyncio.Event)
    _seen: int = 0

    async def hear(self) -> None:
        """Gather what it says."""
        assert self.process.stderr is not None
        while line := await self.process.stderr.readline():
            self.said.append(line.decode().removeprefix("sealpost: ").rstrip("\n"))
            self._heard.set()

    async def expect(self, words: str) -> None:
        """Wait until it says something with these words, after what was expected before."""
        async with asyncio.timeout(PATIENCE):
            while not any(words in line for line in self.said[self._seen :]):
                self._heard.clear()
                await self._heard.wait()
        self._seen += 1 + next(place for place, line in enumerate(self.said[self._seen :]) if words in line)

    async def end(self, number: signal.Signals | None = None, patience: float = PATIENCE) -> tuple[int, dict[str, Any]]:
        """Wait for its end, after a signal where one is given; return exit code and summary."""
        if number is not None:
            self.process.send_signal(number)
        code = await asyncio.wait_for(self.process.wait(), patience)
        assert self.process.stdout is not None
        out = (await self.process.stdout.read()).decode()
        return code, json.loads(out) if out else {}


@contextlib.asynccontextmanager
async def following(
    pipe: Pipe | int, url: str, *options: str, state: Path, user: str = USER, **environment: str
) -> AsyncIterator[Following]:
    """Follow a pipe to a server until the block ends; what it has said shows no traceback."""
    command = ("-m", "src.client", "gather", "--user", user, "--follow", "--json", "--url", url, *options)
    given = {"XDG_STATE_HOME": str(state), "SEALPOST_PASSWORD": PASSWORD, **environment}
    stdin = pipe.outer if isinstance(pipe, Pipe) else pipe
    async with programs.running(*command, environment=given, stdin=stdin) as process:
        found = Following(process)
        hearing = asyncio.create_task(found.hear())
        try:
            yield found
        finally:
            process.kill()
            await asyncio.wait_for(hearing, PATIENCE)
    said = "\n".join(found.said)

    assert "Traceback" not in said
    assert "unexpected error" not in said


async def spooled(state: Path, text: bytes) -> None:
    """Wait until a text is at the end of the newest file of the spool."""
    async with asyncio.timeout(PATIENCE):
        while not (files := sorted(state.rglob("*.batch"))) or not files[-1].read_bytes().endswith(text):
            await asyncio.sleep(0.02)
