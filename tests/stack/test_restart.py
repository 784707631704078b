"""Workers that die or are restarted, and the requests meanwhile."""

import asyncio
import json
import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession

from src.core.workers import worker_sockets
from src.stack.running import RunningStack

from ..processes import PATIENCE
from .traffic import Outcome, assert_problem, open_secret, post

pytestmark = pytest.mark.stack


async def all_running(stack: RunningStack) -> list[int]:
    """Wait until supervisord has all four workers running and they listen; return their process ids."""
    async with asyncio.timeout(PATIENCE):
        while True:
            states = await asyncio.to_thread(stack.supervisorctl, "status")
            # A killed worker leaves its socket, and a slow successor counts as running before it listens.
            listening = [await listens(path) for path in worker_sockets(stack.run_dir)]
            if states.count("RUNNING") == 4 and all(listening):
                return await asyncio.to_thread(stack.worker_pids)
            await asyncio.sleep(0.3)


async def listens(path: Path) -> bool:
    """Tell whether a process accepts connections on a socket."""
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True


async def failures_of_workers(stack: RunningStack) -> str:
    """Return what the logs say of answers that no worker gave, and of workers that ended."""
    await asyncio.sleep(1.1)  # nginx writes its log out every second
    answers = [line for line in (stack.log_dir / "access.jsonl").read_text().splitlines() if '"status":502' in line]
    story = (stack.log_dir / "supervisord.log").read_text().splitlines()[-30:]
    return "\n".join([*answers[-30:], *story, datetime.now(tz=UTC).isoformat()])


async def test_a_killed_worker_comes_back(stack: RunningStack, client: ClientSession) -> None:
    """Supervisord starts a worker anew within seconds, and the others answer meanwhile."""
    before = await all_running(stack)
    os.kill(before[0], signal.SIGKILL)
    for _ in range(20):
        async with client.get("/readyz") as response:
            assert response.status == 200
    after = await all_running(stack)

    assert after[0] not in {0, before[0]}
    assert after[1:] == before[1:]


async def test_a_get_in_flight_on_a_worker_that_dies_is_answered_by_another(
    probes: RunningStack, prober: ClientSession, tmp_path: Path
) -> None:
    """What is idempotent is tried again, so the client notices nothing."""
    before = await all_running(probes)
    for method in ("GET", "HEAD"):
        async with prober.request(method, "/", params={"die-once": str(tmp_path / method)}) as response:
            assert response.status == 200
        assert (tmp_path / method).exists()
    after = await all_running(probes)

    assert len(set(before) - set(after)) == 2


async def test_a_post_in_flight_on_a_worker_that_dies_is_not_sent_to_another(
    probes: RunningStack, prober: ClientSession, tmp_path: Path
) -> None:
    """It may have been carried out, so the client is told, and no second worker sees it."""
    before = await all_running(probes)
    async with prober.post("/generate", params={"die-once": str(tmp_path / "mark")}) as response:
        await assert_problem(response, 502, "worker_failed")
        assert "Retry-After" not in response.headers
    after = await all_running(probes)

    assert len(set(before) - set(after)) == 1


async def test_a_post_goes_to_another_worker_when_one_does_not_listen(
    probes: RunningStack, prober: ClientSession
) -> None:
    """A connection that fails has carried nothing, so any method may be tried elsewhere."""
    for number in (1, 2, 3):
        await asyncio.to_thread(probes.supervisorctl, "stop", f"worker:worker-{number}")
    answers = set()
    for _ in range(20):
        async with prober.post("/generate", json={}) as response:
            assert response.status == 200
            answers.add(json.loads(await response.text())["pid"])
    await asyncio.to_thread(probes.supervisorctl, "start", "all")
    await all_running(probes)

    assert len(answers) == 1


async def test_a_rolling_restart_drops_no_request(stack: RunningStack, client: ClientSession) -> None:
    """While the workers are restarted one by one, every creation and every opening succeeds."""
    before = await all_running(stack)
    failures: list[Outcome] = []
    done = False
    count = 0

    async def work(number: int) -> None:
        nonlocal count
        while not done:
            created = await post(client, "/generate", {"secret": f"secret {number}"})
            if created.status != 201:
                failures.append(created)
                continue
            opened = await open_secret(client, created.body["secret_key"])
            if opened.status != 200 or opened.body["secret"] != f"secret {number}":
                failures.append(opened)
            count += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(32):
            tasks.create_task(work(number))
        for number in range(1, 5):
            begun = time.monotonic()
            await asyncio.to_thread(stack.supervisorctl, "restart", f"worker:worker-{number}")
            assert time.monotonic() - begun < 18
        done = True
    after = await all_running(stack)

    assert failures == []
    assert count > 100
    assert not set(before) & set(after)


async def test_the_sockets_are_for_their_owner_and_group(stack: RunningStack) -> None:
    """Nobody else on the machine reaches a worker past nginx, or controls supervisord."""
    await all_running(stack)
    modes = {path.name: path.stat().st_mode & 0o777 for path in stack.run_dir.glob("*.sock")}

    assert set(modes) == {"supervisor.sock", *(f"worker-{number}.sock" for number in range(1, 5))}
    assert all(mode & 0o007 == 0 for mode in modes.values())
    assert stack.run_dir.stat().st_mode & 0o777 == 0o700
