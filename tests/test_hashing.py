"""The hashing threads."""

import asyncio
import os
import sys
import threading
from types import SimpleNamespace

import pytest

from src.core.crypto.hashing import NICENESS, HashingPool
from src.errors import Unavailable

from .processes import PATIENCE

LOWEST_PRIORITY = 19


class Clock:
    """The clock by which a pool measures its jobs: it goes on only where a job says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def work(self, seconds: float) -> None:
        """Be a job that takes so long."""
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("src.core.crypto.hashing.time", SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


async def test_work_runs_off_the_event_loop() -> None:
    """Results and errors come from another thread."""
    pool = HashingPool(threads=1, queue=1, longest_wait=60)

    assert threading.get_ident() != await pool.run("phrase", threading.get_ident)
    with pytest.raises(ZeroDivisionError):
        await pool.run("phrase", lambda: 1 // 0)
    pool.close()


async def test_the_queue_is_bounded() -> None:
    """With all threads busy and the queue full, jobs are rejected at once; later they are accepted again."""
    pool = HashingPool(threads=2, queue=3, longest_wait=60)
    gate = threading.Event()
    work = [asyncio.create_task(pool.run("phrase", gate.wait)) for _ in range(5)]
    await asyncio.sleep(0)

    with pytest.raises(Unavailable):
        await pool.run("phrase", gate.wait)
    gate.set()

    assert [True] * 5 == await asyncio.gather(*work)
    assert await pool.run("phrase", gate.wait)
    pool.close()


async def test_cancelled_work_frees_its_place() -> None:
    """A job that is cancelled in the queue makes space for another."""
    pool = HashingPool(threads=1, queue=1, longest_wait=60)
    gate = threading.Event()
    running = asyncio.create_task(pool.run("phrase", gate.wait))
    waiting = asyncio.create_task(pool.run("phrase", gate.wait))
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    replacement = asyncio.create_task(pool.run("phrase", gate.wait))
    await asyncio.sleep(0)
    gate.set()

    assert all(await asyncio.gather(running, replacement))
    pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has priorities of threads")
async def test_hashing_yields_to_the_event_loops() -> None:
    """The threads run at a lower priority than the process, whose own is unchanged."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    pool = HashingPool(threads=1, queue=1, longest_wait=60)

    niceness = await pool.run("phrase", lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    assert min(before + NICENESS, LOWEST_PRIORITY) == niceness
    assert before == os.getpriority(os.PRIO_PROCESS, 0)
    pool.close()


async def test_a_wait_that_would_be_too_long_is_refused(clock: Clock) -> None:
    """The wait is predicted from earlier jobs, and Retry-After follows from it."""
    pool = HashingPool(threads=1, queue=100, longest_wait=200)
    gate = threading.Event()
    await pool.run("phrase", clock.work, 120.3)
    waiting = [asyncio.create_task(pool.run("phrase", gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await pool.run("phrase", gate.wait)

    assert "241" == refused.value.headers["Retry-After"]
    gate.set()
    assert all(await asyncio.gather(*waiting))
    assert await pool.run("phrase", gate.wait)
    pool.close()


async def test_no_job_waits_longer_than_predicted() -> None:
    """Jobs accepted before any duration is known do not wait for ever; jobs that have started finish."""
    pool = HashingPool(threads=1, queue=100, longest_wait=3)
    gate = threading.Event()
    running = asyncio.create_task(pool.run("phrase", gate.wait))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(PATIENCE):
            waiting = await asyncio.gather(*(pool.run("phrase", gate.wait) for _ in range(10)), return_exceptions=True)
    finally:
        gate.set()

    assert [Unavailable] * 10 == [type(outcome) for outcome in waiting]
    assert await running
    assert await pool.run("phrase", gate.wait)
    pool.close()


async def test_early_jobs_count_in_later_predictions(clock: Clock) -> None:
    """The prediction includes all pending jobs, whenever they were accepted, and the refusal does not wait for them."""
    pool = HashingPool(threads=1, queue=100, longest_wait=100)
    crowded, gate = threading.Event(), threading.Event()

    def first() -> bool:
        crowded.wait()
        clock.work(20)
        return True

    crowd = [asyncio.create_task(pool.run("phrase", job)) for job in (first, *[gate.wait] * 9)]
    await asyncio.sleep(0)
    crowded.set()
    await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)

    late = pool.run("phrase", gate.wait)
    try:
        with pytest.raises(Unavailable):
            late.send(None)
    finally:
        late.close()
        gate.set()
    await asyncio.gather(*crowd)
    pool.close()


async def test_an_idle_pool_accepts_jobs_of_any_length(clock: Clock) -> None:
    """A job longer than the maximum wait is accepted if it can start at once."""
    pool = HashingPool(threads=1, queue=1, longest_wait=60)

    for _ in range(2):
        await pool.run("phrase", clock.work, 80)
    pool.close()


async def test_one_long_job_does_not_block_later_ones(clock: Clock) -> None:
    """After a single job that took 150 times as long, the next are still accepted."""
    pool = HashingPool(threads=1, queue=100, longest_wait=100)
    for seconds in (1, 150):
        await pool.run("phrase", clock.work, seconds)

    waiting = [asyncio.create_task(pool.run("phrase", clock.work, 1)) for _ in range(5)]

    assert [None] * 5 == await asyncio.gather(*waiting)
    pool.close()
