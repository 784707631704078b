"""`gather --follow` during crashes of workers and outages of MongoDB: each line once, in order."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from ..client.following import Pipe, following, spooled
from ..processes import PATIENCE
from .mongod import Mongod
from .test_gatherer import dumped, gathered, operator
from .test_restart import all_running

pytestmark = pytest.mark.stack

__all__ = ["operator"]
LINES = 20_000
AWAY = 5.0
"""Seconds."""
USER = "follower-1"


async def test_every_line_arrives_once_while_the_stack_is_away(
    stack: RunningStack, client: ClientSession, mongod: Mongod, operator: str, tmp_path: Path
) -> None:
    """While MongoDB is stopped and a worker and the client are killed; in MongoDB and in the dump, in order."""
    lines = [f"line {number} of the log" for number in range(LINES)]
    content = "".join(f"{line}\n" for line in lines).encode()
    pipe, third = Pipe(), len(content) // 3
    async with following(pipe, stack.url, state=tmp_path, user=USER) as first:
        await pipe.write(content[:third])
        workers = await asyncio.to_thread(stack.worker_pids)
        os.kill(next(pid for pid in workers if pid), signal.SIGKILL)
        await asyncio.to_thread(mongod.stop)
        writing = asyncio.create_task(pipe.write(content[third:]))
        await first.expect("Retrying; lines stay in the spool")
        await writing
        await spooled(tmp_path, content[-5:])
    async with following(pipe, stack.url, state=tmp_path, user=USER) as second:
        await asyncio.sleep(AWAY)
        await asyncio.to_thread(mongod.start)
        pipe.end()
        code, summary = await second.end()
    pipe.close()
    expected = {USER: list(enumerate(lines, start=1))}
    async with asyncio.timeout(PATIENCE):
        while len(dumped(stack, USER).get(USER, [])) < LINES:
            await asyncio.sleep(0.1)

    assert (0, 0, 0) == (code, summary["waiting"], summary["refused"])
    assert expected == await gathered(client, operator, USER)
    assert expected == dumped(stack, USER)
    await all_running(stack)
