"""Held openings through nginx and four workers, while any of them, or MongoDB, dies."""

import asyncio
import os
import secrets
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack

from ..processes import PATIENCE
from .mongod import Mongod
from .test_restart import all_running
from .traffic import Outcome, create, post

pytestmark = pytest.mark.stack

AT_ONCE = 200
READERS = 60
ROUNDS = 10
"""Maximum number of attempts to cause a fault that a reader notices."""


def new_reader() -> str:
    return secrets.token_urlsafe(32)


async def ask(client: ClientSession, key: str, reader: str) -> Outcome:
    return await post(client, f"/secrets/{key}", {"reader": reader})


async def learn(client: ClientSession, key: str, reader: str) -> tuple[Outcome, int]:
    """Ask until there is an answer; return it and the number of failures before it."""
    failures = 0
    async with asyncio.timeout(PATIENCE):
        while True:
            outcome = await ask(client, key, reader)
            if outcome.status in {200, 404}:
                return outcome, failures

            assert outcome.status in {0, 502, 503, 504}, outcome
            failures += 1
            await asyncio.sleep(0.1)


async def test_of_two_hundred_readers_with_keys_one_may_ask_again(stack: RunningStack, client: ClientSession) -> None:
    """10 races: the winner gets the same response ten times, the others 404 throughout, and receipts tell it."""
    await all_running(stack)
    for _ in range(10):
        created = (await post(client, "/generate", {"secret": "raced"})).body
        key, readers = created["secret_key"], [new_reader() for _ in range(AT_ONCE)]

        outcomes = await asyncio.gather(*(ask(client, key, reader) for reader in readers))
        [winner] = [reader for reader, outcome in zip(readers, outcomes, strict=True) if outcome.status == 200]
        again = [await ask(client, key, winner) for _ in range(10)]
        others = await asyncio.gather(*(ask(client, key, reader) for reader in readers if reader != winner))

        assert [200] + [404] * (AT_ONCE - 1) == sorted(outcome.status for outcome in outcomes)
        told = next(outcome.body for outcome in outcomes if outcome.status == 200)
        assert ("raced", [told] * 10) == (told["secret"], [outcome.body for outcome in again])
        assert {404} == {outcome.status for outcome in others}
        async with client.post(f"/secrets/{key}/received", json={"reader": winner}) as response:
            assert 204 == response.status
        assert 404 == (await ask(client, key, winner)).status
        async with client.get(f"/receipts/{created['receipt_key']}") as response:
            receipt = await response.json()
        assert 2 * (AT_ONCE - 1) == receipt["late_attempts"]


async def kill_workers(stack: RunningStack, _: Mongod) -> None:
    for pid in await asyncio.to_thread(stack.worker_pids):
        if pid:
            os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)


async def kill_nginx(stack: RunningStack, _: Mongod) -> None:
    """Kill the processes of nginx that serve connections; its master starts others."""
    master = (stack.run_dir / "nginx.pid").read_text().strip()
    children = Path(f"/proc/{master}/task/{master}/children").read_text().split()

    assert children
    for pid in children:
        os.kill(int(pid), signal.SIGKILL)


async def freeze_mongodb(_: RunningStack, mongod: Mongod) -> None:
    mongod.signal(signal.SIGSTOP)
    await asyncio.sleep(7)
    mongod.signal(signal.SIGCONT)


async def restart_mongodb(_: RunningStack, mongod: Mongod) -> None:
    await asyncio.to_thread(mongod.stop)
    await asyncio.to_thread(mongod.start)


@pytest.mark.parametrize("kill", [kill_workers, kill_nginx, freeze_mongodb, restart_mongodb])
async def test_no_text_is_lost_whatever_is_killed(
    stack: RunningStack,
    client: ClientSession,
    mongod: Mongod,
    kill: Callable[[RunningStack, Mongod], Awaitable[None]],
) -> None:
    """Each reader asks until it knows: one of two gets the text, the other 404, and asking again gets the same."""
    failures = 0
    for _ in range(ROUNDS):
        if failures := failures + await outcome_of_a_fault(stack, client, mongod, kill):
            break

    assert failures, "no reader noticed the fault"


async def outcome_of_a_fault(
    stack: RunningStack,
    client: ClientSession,
    mongod: Mongod,
    kill: Callable[[RunningStack, Mongod], Awaitable[None]],
) -> int:
    """Check what readers get during a fault, and return how many requests failed, which may be 0."""
    await all_running(stack)
    keys = [await create(client, f"secret {number}") for number in range(READERS)]
    pairs = [(new_reader(), new_reader()) for _ in keys]
    begun = asyncio.Event()

    async def read(number: int, reader: str) -> tuple[Outcome, int]:
        await asyncio.sleep(number / READERS / 2)
        begun.set()
        return await learn(client, keys[number], reader)

    async with asyncio.TaskGroup() as tasks:
        reading = [tasks.create_task(read(number, reader)) for number, pair in enumerate(pairs) for reader in pair]
        await begun.wait()
        tasks.create_task(kill(stack, mongod))  # type: ignore[arg-type]
    results = [task.result() for task in reading]
    await all_running(stack)

    for number, (key, pair) in enumerate(zip(keys, pairs, strict=True)):
        outcomes = [outcome for outcome, _ in results[2 * number : 2 * number + 2]]
        assert [200, 404] == sorted(outcome.status for outcome in outcomes)
        again = [(await learn(client, key, reader))[0] for reader in pair]
        for before, after in zip(outcomes, again, strict=True):
            assert (before.status, before.body.get("secret")) == (after.status, after.body.get("secret"))
            assert before.body.get("held_until") == after.body.get("held_until")
        assert {f"secret {number}", None} == {outcome.body.get("secret") for outcome in outcomes}
    return sum(failures for _, failures in results)
