"""Workers that die or are restarted, and the requests meanwhile."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.running_stack import RunningStack
from src.core.workers import worker_sockets
from src.manage.__main__ import main

from ..commands import Ended, Operator
from ..processes import PATIENCE
from .mongod import Mongod
from .traffic import Outcome, assert_problem, open_secret, post

pytestmark = pytest.mark.stack


async def all_running(stack: RunningStack) -> list[int]:
    """Wait until supervisord has all 4 workers running and they listen; return their process ids."""
    async with asyncio.timeout(PATIENCE):
        while True:
            states = await asyncio.to_thread(stack.supervisorctl, "status")
            # A killed worker leaves its socket, and a slow successor counts as running before it listens on it.
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
    """Return the log lines of responses without a worker, and of workers that exited."""
    await asyncio.sleep(1.1)  # nginx flushes its log every second
    answers = [line for line in (stack.log_dir / "access.jsonl").read_text().splitlines() if '"status":502' in line]
    story = (stack.log_dir / "supervisord.log").read_text().splitlines()[-30:]
    return "\n".join([*answers[-30:], *story, datetime.now(tz=UTC).isoformat()])


async def test_a_killed_worker_comes_back(stack: RunningStack, client: ClientSession) -> None:
    """Supervisord restarts it within seconds, and the others answer meanwhile."""
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
    """Idempotent requests are retried, so the client notices nothing."""
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
    """It may have been executed, so the client gets an error, and no second worker receives it."""
    before = await all_running(probes)
    async with prober.post("/generate", params={"die-once": str(tmp_path / "mark")}) as response:
        await assert_problem(response, 502, "worker_failed")
        assert "Retry-After" not in response.headers
    after = await all_running(probes)

    assert len(set(before) - set(after)) == 1


async def test_without_workers_requests_get_503(probes: RunningStack, prober: ClientSession) -> None:
    """The request was not executed, so a 503 with Retry-After is correct, also for `/metrics`."""
    await asyncio.to_thread(probes.supervisorctl, "stop", "all")
    try:
        for method, url in (("GET", "/readyz"), ("POST", "/generate"), ("GET", probes.metrics_url)):
            async with prober.request(method, url) as response:
                await assert_problem(response, 503, "starting")
                assert "1" == response.headers["Retry-After"]
    finally:
        await asyncio.to_thread(probes.supervisorctl, "start", "all")
        await all_running(probes)


async def test_a_post_goes_to_another_worker_when_one_does_not_listen(
    probes: RunningStack, prober: ClientSession
) -> None:
    """A failed connection has carried no request, so any method may be retried elsewhere."""
    await all_running(probes)
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
        restarted = await restart(stack)
        done = True
    after = await all_running(stack)

    assert (0, 4) == (restarted.code, restarted.stderr.count("is ready"))
    assert failures == []
    assert count > 100
    assert not set(before) & set(after)


async def test_the_sockets_are_for_their_owner_and_group(stack: RunningStack) -> None:
    """No other user of the machine reaches a worker without nginx, or controls supervisord."""
    await all_running(stack)
    modes = {path.name: path.stat().st_mode & 0o777 for path in stack.run_dir.glob("*.sock")}

    assert set(modes) == {"supervisor.sock", *(f"worker-{number}.sock" for number in range(1, 5))}
    assert all(mode & 0o007 == 0 for mode in modes.values())
    assert stack.run_dir.stat().st_mode & 0o777 == 0o700


@contextmanager
def dotenv(stack: RunningStack, text: str) -> Iterator[None]:
    """Create a file .env in the stack's working directory."""
    path = stack.log_dir.parent / ".env"
    path.write_text(text)
    try:
        yield
    finally:
        path.unlink()


@contextmanager
def without_counts(stack: RunningStack) -> Iterator[None]:
    """Make the metrics directory unusable for starting workers."""
    counts, away = stack.run_dir / "metrics", stack.run_dir / "metrics.away"
    counts.rename(away)
    counts.touch()
    try:
        yield
    finally:
        counts.unlink()
        away.rename(counts)


def restart(stack: RunningStack) -> Awaitable[Ended]:
    """Restart the workers, one by one; each has its own time limit."""
    return Operator({"RUN_DIR": str(stack.run_dir)}).run("restart", patience=6 * PATIENCE)


async def test_a_restart_with_invalid_settings_restarts_nothing(stack: RunningStack) -> None:
    """The settings are checked first, in the workers' environment, and the error names the invalid one."""
    before = await all_running(stack)
    with dotenv(stack, "SEALPOST_TTL_MX=5\nSEALPOST_BATCH_MAX=many\n"):
        ended = await restart(stack)
    after = await all_running(stack)

    assert 2 == ended.code
    assert "SEALPOST_TTL_MX: no such setting" in ended.stderr
    assert "SEALPOST_BATCH_MAX" in ended.stderr
    assert "Nothing was restarted" in ended.stderr
    assert before == after


async def test_a_restart_stops_at_the_first_worker_that_does_not_come_back(
    stack: RunningStack, client: ClientSession
) -> None:
    """The others keep running; once the cause is fixed, the same command restarts all of them."""
    before = await all_running(stack)
    with without_counts(stack):
        failed = await restart(stack)
        between = await asyncio.to_thread(stack.worker_pids)
        for _ in range(20):
            async with client.get("/readyz") as response:
                assert response.status == 200
    succeeded = await restart(stack)
    after = await all_running(stack)

    assert 1 == failed.code
    assert "worker 1 is not ready" in failed.stderr
    assert "Workers 2, 3, 4 keep running with their old settings" in failed.stderr
    assert "worker-1.err ends with:" in failed.stderr
    assert [0, *before[1:]] == between
    assert 0 == succeeded.code
    assert not set(before) & set(after)


async def test_a_worker_that_starts_but_is_not_ready_gets_no_requests(
    stack: RunningStack, mongod: Mongod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is stopped, so that nginx sends requests only to the others."""
    monkeypatch.setenv("RUN_DIR", str(stack.run_dir))
    monkeypatch.setattr("src.manage.restart.READY_SECONDS", 15)
    await all_running(stack)
    await asyncio.to_thread(mongod.stop)
    try:
        code = await asyncio.to_thread(main, ["restart"])
        between = await asyncio.to_thread(stack.worker_pids)
    finally:
        await asyncio.to_thread(mongod.start)
    said = capsys.readouterr().err
    restarted = await restart(stack)

    assert (1, 0) == (code, restarted.code)
    assert "it listens, but is not ready after 15 s" in said
    assert [0, True, True, True] == [between[0], *map(bool, between[1:])]


async def test_a_restart_without_a_stack_says_where_it_looked(tmp_path: Path) -> None:
    """The error has the directory of the sockets."""
    nowhere = await Operator({"SEALPOST_DATA_DIR": str(tmp_path)}).run("restart")

    assert 1 == nowhere.code
    assert f"no stack has its sockets in {tmp_path / 'run'}" in nowhere.stderr
