"""The bodies that are most expensive to reject do not delay other clients and leak no memory."""

import asyncio
import json
import os
import sys
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack
from src.errors import describe_status

from ..hostile_bodies import JSON_BODIES
from .test_restart import all_running
from .traffic import create

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
ORDINARY = 40
MOST_TIMES_ORDINARY = 5
"""Mean CPU time of a worker for a hostile body, including the greetings in between, over that for an ordinary one."""
PACE = 0.01
LARGEST_REFUSAL = 64 * 1024
GROWTH = 96 * 1024 * 1024
"""Bytes that a worker may keep of all of it, freed memory that the allocator holds included: up to 53 MB were seen on a
busy machine, and over 200 MB while hostile bodies were expensive."""


def resident(process: int) -> int:
    """Return the resident memory of a process in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


def processor_seconds(process: int) -> float:
    """Return the CPU time of a process, in seconds."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


async def processor_seconds_of_ordinary(client: ClientSession, workers: list[int]) -> float:
    """Return the mean CPU seconds of the workers for a secret of almost the largest size."""
    used = sum(map(processor_seconds, workers))
    for _ in range(ORDINARY):
        await create(client, "x" * 1_000_000)
    return (sum(map(processor_seconds, workers)) - used) / ORDINARY


async def test_hostile_bodies_cost_the_workers_little(stack: RunningStack, client: ClientSession) -> None:
    """4 at a time: greetings are answered meanwhile, errors are short and cheap, and no worker's memory grows much."""
    workers = await all_running(stack)
    ordinary = [await processor_seconds_of_ordinary(client, workers)]
    before = [resident(worker) for worker in workers]
    used = sum(map(processor_seconds, workers))
    host, port = stack.url.removeprefix("http://").split(":")
    hostile = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.stack.hostile", host, port), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert hostile.stdout is not None
    assert b"begun\n" == await hostile.stdout.readline()
    ended, greetings = asyncio.create_task(hostile.stdout.read()), 0
    while not ended.done():
        async with client.get("/hello") as response:
            assert 200 == response.status
            await response.read()
        greetings += 1
        await asyncio.sleep(PACE)
    told = json.loads(await ended)
    used = sum(map(processor_seconds, workers)) - used
    growth = [resident(worker) - size for worker, size in zip(workers, before, strict=True)]
    ordinary.append(await processor_seconds_of_ordinary(client, workers))

    assert 0 == await hostile.wait()
    assert {"200", "201", "400", "404", "413"} == set(told["statuses"])
    assert told["longest"] < LARGEST_REFUSAL
    assert await asyncio.to_thread(stack.worker_pids) == workers
    assert max(growth) < GROWTH
    assert greetings > 10
    assert used / sum(told["statuses"].values()) < MOST_TIMES_ORDINARY * max(ordinary)


async def test_nginx_names_the_limit_of_the_echo_and_leaves_a_token_empty(client: ClientSession) -> None:
    """In its own 413 at /echo, and in its errors for senders."""
    details = {}
    for path in ("/echo", "/generate", "/authenticate"):
        async with client.post(path, data=BytesIO(JSON_BODIES["white space"] + b"  ")) as response:
            assert 413 == response.status
            details[path] = await response.json(content_type=None)

    assert "The body is over 1,000,000 bytes. Send a smaller one." == details["/echo"]["detail"]
    assert "The body is over 1 MiB. Send a smaller one." == details["/generate"]["detail"]
    assert ["token" in details[path] for path in details] == [False, False, True]
    assert ("", describe_status(413), details["/generate"]["detail"]) == tuple(
        details["/authenticate"][name] for name in ("token", "status_description", "status_message")
    )
