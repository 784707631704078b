"""Group commit."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.database.group_commit import Command, GroupCommit
from src.errors import Unavailable


class Commands:
    """A command whose batches are held until they are let go, and which remembers them."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, batch: Sequence[int]) -> Sequence[int | Exception]:
        """Answer each request with its double; negative ones fail."""
        self.batches.append(list(batch))
        await self.gate.wait()
        return [ValueError("negative") if request < 0 else request * 2 for request in batch]


def start(commit: GroupCommit[int, int], *requests: int) -> list[asyncio.Task[int]]:
    """Submit requests at once, each from a task of its own."""
    return [asyncio.create_task(commit.submit(request)) for request in requests]


def handing_on(command: Command[int, int]) -> tuple[GroupCommit[int, int], list[tuple[int, int]]]:
    """Return a group commit and the list of what nobody took: each request with its result."""
    abandoned: list[tuple[int, int]] = []
    commit = GroupCommit[int, int](
        "double",
        command,
        max_batch=10,
        max_queue=10,
        abandoned=lambda request, result: abandoned.append((request, result)),
    )
    return commit, abandoned


async def turns(count: int = 5) -> None:
    """Let every ready task run."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_request_waits_for_nothing() -> None:
    """With nothing in flight a request goes out at once, alone."""
    commands = Commands()
    commands.gate.set()
    commit = GroupCommit[int, int]("double", commands, max_batch=10, max_queue=10)

    assert 2 == await commit.submit(1)
    assert 4 == await commit.submit(2)
    assert [[1], [2]] == commands.batches


async def test_what_queues_behind_a_command_shares_the_next() -> None:
    """While one command is in flight, all that comes waits and then goes out as one, in order, split at the limit."""
    commands = Commands()
    commit = GroupCommit[int, int]("double", commands, max_batch=3, max_queue=10)
    tasks = start(commit, 1)
    await turns()
    tasks += start(commit, 2, 3, 4, 5)
    await turns()
    assert [[1]] == commands.batches

    commands.gate.set()

    assert [2, 4, 6, 8, 10] == await asyncio.gather(*tasks)
    assert [[1], [2, 3, 4], [5]] == commands.batches


async def test_one_failure_does_not_spread() -> None:
    """Each request gets its own result or its own error."""
    commands = Commands()
    commands.gate.set()
    commit = GroupCommit[int, int]("double", commands, max_batch=10, max_queue=10)

    answers = await asyncio.gather(*start(commit, 1, -2, 3), return_exceptions=True)

    assert [2, 6] == [answers[0], answers[2]]
    assert isinstance(answers[1], ValueError)


async def test_a_failed_command_fails_its_batch_only() -> None:
    """What queued behind a failing command is carried out by the next."""
    calls = 0

    async def command(batch: Sequence[int]) -> Sequence[int | Exception]:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        if calls == 1:
            raise ConnectionError
        return list(batch)

    commit = GroupCommit[int, int]("double", command, max_batch=10, max_queue=10)
    first = start(commit, 1)
    await turns(1)
    answers = await asyncio.gather(*first, *start(commit, 2, 3), return_exceptions=True)

    assert isinstance(answers[0], ConnectionError)
    assert [2, 3] == answers[1:]


async def test_a_command_that_answers_short_is_an_error_for_all() -> None:
    """Nobody gets another's result when the counts do not match."""

    async def command(batch: Sequence[int]) -> Sequence[int | Exception]:
        return list(batch)[1:]

    commit = GroupCommit[int, int]("double", command, max_batch=10, max_queue=10)

    answers = await asyncio.gather(*start(commit, 1, 2), return_exceptions=True)

    assert [RuntimeError, RuntimeError] == [type(answer) for answer in answers]


async def test_the_queue_is_bounded() -> None:
    """One request too many is refused at once, and the others lose nothing by it."""
    commands = Commands()
    commit = GroupCommit[int, int]("double", commands, max_batch=1, max_queue=2)
    tasks = start(commit, 1)
    await turns()
    tasks += start(commit, 2, 3)
    await turns()

    with pytest.raises(Unavailable) as caught:
        await commit.submit(4)
    commands.gate.set()

    assert "1" == caught.value.headers["Retry-After"]
    assert [2, 4, 6] == await asyncio.gather(*tasks)


async def test_a_request_cancelled_in_the_queue_is_not_carried_out() -> None:
    """Its neighbours are, and get their own results."""
    commands = Commands()
    commit = GroupCommit[int, int]("double", commands, max_batch=10, max_queue=10)
    tasks = start(commit, 1)
    await turns()
    tasks += start(commit, 2, 3, 4)
    await turns()

    tasks[2].cancel()
    await turns()
    commands.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [[1], [2, 4]] == commands.batches
    assert [2, 4, 8] == [answers[0], answers[1], answers[3]]


async def test_a_result_that_nobody_waits_for_is_told() -> None:
    """A request cancelled in flight is carried out, its neighbours get theirs, and its result is handed on."""
    commands = Commands()
    commit, abandoned = handing_on(commands)
    tasks = start(commit, 1, 2, -3)
    await turns()

    tasks[0].cancel()
    tasks[2].cancel()
    await turns()
    commands.gate.set()

    assert 4 == await tasks[1]
    assert [(1, 2)] == abandoned


@pytest.mark.parametrize("request_", [1, -3])
async def test_a_result_that_comes_just_before_the_cancellation_is_told(request_: int) -> None:
    """It was there, and nobody took it: the same as if nobody had waited. An error is nothing to hand on."""
    commands = Commands()
    commands.gate.set()

    async def command(requests: Sequence[int]) -> Sequence[int | Exception]:
        results = await commands(requests)
        # Before the requester, whom the answer is about to wake.
        asyncio.get_running_loop().call_soon(task.cancel)
        return results

    commit, abandoned = handing_on(command)
    [task] = start(commit, request_)
    await asyncio.wait([task])

    assert task.cancelled()
    assert ([(1, 2)] if request_ > 0 else []) == abandoned


async def test_requests_with_one_key_never_share_a_command() -> None:
    """The second of two waits for the next batch, without losing its place among those that wait."""
    commands = Commands()
    commands.gate.set()
    commit = GroupCommit[int, int]("double", commands, max_batch=3, max_queue=20, key=lambda request: request % 10)

    await asyncio.gather(*start(commit, 1, 11, 2, 21, 3, 4))

    assert [[1, 2, 3], [11, 4], [21]] == commands.batches


async def test_closing_waits_for_what_is_queued() -> None:
    """Nothing that was accepted is left undone."""
    commands = Commands()
    commit = GroupCommit[int, int]("double", commands, max_batch=1, max_queue=10)
    tasks = start(commit, 1, 2, 3)
    await turns()

    closing = asyncio.create_task(commit.close())
    await turns()
    assert not closing.done()
    commands.gate.set()
    await closing

    assert [2, 4, 6] == [task.result() for task in tasks]


async def test_a_stopped_loop_leaves_nobody_waiting() -> None:
    """When the batch's own task is cancelled, those in flight and those in the queue are too."""
    commands = Commands()
    commit = GroupCommit[int, int]("double", commands, max_batch=1, max_queue=10)
    tasks = start(commit, 1, 2)
    await turns()

    next(task for task in asyncio.all_tasks() if "GroupCommit._run" in repr(task)).cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [asyncio.CancelledError] * 2 == [type(answer) for answer in answers]
    commands.gate.set()
    assert 6 == await commit.submit(3)


@given(st.lists(st.tuples(st.integers(-50, 50), st.booleans()), max_size=60), st.integers(1, 7), st.booleans())
def test_everyone_gets_their_own_answer(requests: list[tuple[int, bool]], max_batch: int, keyed: bool) -> None:
    """Whatever comes, fails and is cancelled, in whatever batches: no answer is lost or swapped."""

    async def run() -> None:
        commands = Commands()
        key = (lambda request: request % 3) if keyed else None
        commit = GroupCommit[int, int]("double", commands, max_batch=max_batch, max_queue=100, key=key)
        tasks = start(commit, *(request for request, _ in requests))
        await turns(2)
        for task, (_, cancel) in zip(tasks, requests, strict=True):
            if cancel:
                task.cancel()
        commands.gate.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for (request, cancelled), answer in zip(requests, answers, strict=True):
            if cancelled:
                assert isinstance(answer, asyncio.CancelledError)
            elif request < 0:
                assert isinstance(answer, ValueError)
            else:
                assert request * 2 == answer
        carried_out = [request for batch in commands.batches for request in batch]
        assert all(len(batch) <= max_batch for batch in commands.batches)
        assert len(carried_out) <= len(requests)

    asyncio.run(run())
