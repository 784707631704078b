"""Clients that read a large answer slowly, in front of the real workers."""

import asyncio
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack
from src.api.bodies import MAX_BODY

from ..processes import PATIENCE
from .slow import LEAST_BUFFER

pytestmark = pytest.mark.stack

READERS = 20
MEBIBYTES_EACH = 2
"""Less than a third of an answer: what the workers may have kept for each reader."""


def resident_mebibytes(stack: RunningStack) -> float:
    """Return the memory of all workers."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in stack.worker_pids()]
    return sum(int((re.search(r"VmRSS:\s+(\d+) kB", status) or [""])[1]) for status in statuses) / 1024


async def test_slow_readers_hold_no_memory_in_the_workers(stack: RunningStack, client: ClientSession) -> None:
    """The largest answer there is, 6 MiB for 1 MiB of control characters, waits in nginx."""
    form = b"message=" + b"\x01" * (MAX_BODY - 8)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with client.post("/", data=form, headers=headers) as response:
        path = "/message/" + (await response.json())["url"].rpartition("/")[2]
    sizes = [len(await (await client.get(path)).read()) for _ in range(8)]
    before = await asyncio.to_thread(resident_mebibytes, stack)
    loop = asyncio.get_running_loop()
    with ExitStack() as connections:
        for _ in range(READERS):
            reader = connections.enter_context(socket.socket())
            reader.setblocking(False)
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_BUFFER)
            await loop.sock_connect(reader, ("127.0.0.1", int(stack.url.rpartition(":")[2])))
            await loop.sock_sendall(reader, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

            assert b"H" == await loop.sock_recv(reader, 1)
        async with asyncio.timeout(PATIENCE):
            while await asyncio.to_thread(resident_mebibytes, stack) > before + READERS * MEBIBYTES_EACH:
                await asyncio.sleep(0.1)

    assert min(sizes) > 6 * (MAX_BODY - 8)
