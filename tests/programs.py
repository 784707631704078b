"""Programs as separate processes, started by the fork server."""

import asyncio
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parent.parent


class Process:
    """A program that runs or has ended, with the interface of an asyncio subprocess."""

    def __init__(
        self,
        pid: int,
        ended: asyncio.Task[int],
        stdin: asyncio.StreamWriter | None,
        stdout: asyncio.StreamReader | None,
        stderr: asyncio.StreamReader | None,
    ) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._ended = ended

    @property
    def returncode(self) -> int | None:
        """The exit code, the negative number of the signal that killed it, or None while it runs."""
        return self._ended.result() if self._ended.done() else None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end, and return the exit code."""
        return await asyncio.shield(self._ended)

    async def communicate(self, text: bytes = b"") -> tuple[bytes, bytes]:
        """Write to its stdin, wait for its end, and return its output."""
        if self.stdin:
            with contextlib.suppress(ConnectionError):
                self.stdin.write(text)
                await self.stdin.drain()
            self.stdin.close()
        out, err = await asyncio.gather(_read(self.stdout), _read(self.stderr))
        await self.wait()
        return out, err


@contextlib.asynccontextmanager
async def running(
    *program: str,
    environment: Mapping[str, str],
    stdin: int | IO[bytes] = DEVNULL,
    stdout: int | IO[bytes] = PIPE,
    stderr: int | IO[bytes] = PIPE,
) -> AsyncIterator[Process]:
    """Run a program, ``-m MODULE …`` or ``-c SCRIPT …``, in the repository's root; it is gone afterwards.

    The environment is added to this process's own.
    """
    order = {"program": program, "environment": {**os.environ, **environment}}
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.ExitStack() as handed_over:
            ends = [await _connect(stack, handed_over, stream) for stream in (stdin, stdout, stderr, PIPE)]
            descriptors = [descriptor for descriptor, _, _ in ends]
            socket.send_fds(_fork_server()[0], [json.dumps(order).encode() + b"\n"], descriptors)
        (_, _, writer), (_, out, _), (_, err, _), (_, report, _) = ends
        assert report is not None
        pid = await _read_number(report)
        ended = asyncio.create_task(_read_number(report))
        process = Process(pid, ended, writer, out, err)
        try:
            yield process
        finally:
            process.kill()
            await ended


def end_fork_server() -> None:
    """Stop the fork server, if it runs."""
    if _fork_server.cache_info().currsize:
        orders, process = _fork_server()
        orders.close()
        process.wait()
        _fork_server.cache_clear()


@functools.cache
def _fork_server() -> tuple[socket.socket, "subprocess.Popen[bytes]"]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
            cwd=ROOT,
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Ctrl-C is for the tests, which stop the processes that they started.
            start_new_session=True,
        )
    return ours, process


async def _connect(
    stack: contextlib.AsyncExitStack, handed_over: contextlib.ExitStack, stream: int | IO[bytes]
) -> tuple[int, asyncio.StreamReader | None, asyncio.StreamWriter | None]:
    """Return a descriptor for the program, and for a pipe this side's end of it."""
    if stream == PIPE:
        ours, theirs = socket.socketpair()
        handed_over.enter_context(theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        stack.push_async_callback(_close, writer)
        return theirs.fileno(), reader, writer
    if stream == DEVNULL:
        descriptor = os.open(os.devnull, os.O_RDWR)
        handed_over.callback(os.close, descriptor)
        return descriptor, None, None
    return stream if isinstance(stream, int) else stream.fileno(), None, None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    return await stream.read() if stream else b""


async def _read_number(report: asyncio.StreamReader) -> int:
    line = await report.readline()
    assert line, "the fork server has ended"
    return int(line)
