"""Group commit."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.database.group_commit import Command, GroupCommit
from src.errors import Unavailable


class Commands:
    """A command whose batches are held until released, and recorded."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, batch: Sequence[int]) -> Sequence[int | Exception]:
        """Answer each request with its double; negative ones fail."""
        self.batches.append(list(batch))
        await self.gate.wait()
        return [ValueError("negative") if request < 0 else request * 2 for request in batch]


def start(commit: GroupCommit[int, int], *requests: int) -> list[asyncio.Task[int]]:
    """Submit requests concurrently, each from its own task."""
    return [asyncio.create_task(commit.submit(request)) for request in requests]


def handing_on(command: Command[int, int]) -> tuple[GroupCommit[int, int], list[tuple[int, int]]]:
    """Return a group commit and the list of abandoned results, each with its request."""
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


async def test_a_lone_request_is_sent_at_once() -> None:
    """With nothing in flight, a request is sent at once, alone."""
    commands = Commands()
    commands.gate.set()
    commit = GroupCommit[int, int]("double", commands, max_batch=10, max_queue=10)

    assert 2 == await commit.submit(1)
    assert 4 == await commit.submit(2)
    assert [[1], [2]] == commands.batches


async def test_queued_requests_share_the_next_command() -> None:
    """Requests that arrive while a command is in flight go into the next, in order, split at the limit."""
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
    """Requests queued behind a failing command run in the next."""
    gate = asyncio.Event()

    async def command(batch: Sequence[int]) -> Sequence[int | Exception]:
        await gate.wait()
        if 1 in batch:
            raise ConnectionError
        return list(batch)

    commit = GroupCommit[int, int]("double", command, max_batch=10, max_queue=10)
    tasks = start(commit, 1)
    await turns()
    tasks += start(commit, 2, 3)
    await turns()
    gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[0], ConnectionError)
    assert [2, 3] == answers[1:]


async def test_a_wrong_number_of_results_is_an_error_for_all() -> None:
    """No request gets another's result if the counts differ."""

    async def command(batch: Sequence[int]) -> Sequence[int | Exception]:
        return list(batch)[1:]

    commit = GroupCommit[int, int]("double", command, max_batch=10, max_queue=10)

    answers = await asyncio.gather(*start(commit, 1, 2), return_exceptions=True)

    assert [RuntimeError, RuntimeError] == [type(answer) for answer in answers]


async def test_the_queue_is_bounded() -> None:
    """A request above the limit is rejected at once, and the others are unaffected."""
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


async def test_a_request_cancelled_in_the_queue_is_not_executed() -> None:
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


async def test_a_result_of_a_cancelled_request_is_handed_on() -> None:
    """A request cancelled in flight is executed, its neighbours get their results, and its own is handed on."""
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
async def test_a_result_just_before_the_cancellation_is_handed_on(request_: int) -> None:
    """A result that its requester did not receive is handed on; an error is not."""
    commands = Commands()
    commands.gate.set()

    async def command(requests: Sequence[int]) -> Sequence[int | Exception]:
        results = await commands(requests)
        # Before the requester, which the result is about to wake.
        asyncio.get_running_loop().call_soon(task.cancel)
        return results

    commit, abandoned = handing_on(command)
    [task] = start(commit, request_)
    await asyncio.wait([task])

    assert task.cancelled()
    assert ([(1, 2)] if request_ > 0 else []) == abandoned


async def test_requests_with_one_key_never_share_a_command() -> None:
    """The second one joins the next batch and keeps its place in the queue."""
    commands = Commands()
    commands.gate.set()
    commit = GroupCommit[int, int]("double", commands, max_batch=3, max_queue=20, key=lambda request: request % 10)

    await asyncio.gather(*start(commit, 1, 11, 2, 21, 3, 4))

    assert [[1, 2, 3], [11, 4], [21]] == commands.batches


async def test_closing_waits_for_queued_requests() -> None:
    """Every accepted request is executed."""
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


async def test_a_cancelled_batch_cancels_its_requests() -> None:
    """If the batch task is cancelled, requests in flight and in the queue are cancelled too."""
    commands = Commands()
    commit = GroupCommit[int, int]("double", commands, max_batch=1, max_queue=10)
    others = asyncio.all_tasks()  # of servers that the tests of this process share
    tasks = start(commit, 1, 2)
    await turns()

    [batch] = [task for task in asyncio.all_tasks() - others if "GroupCommit._run" in repr(task)]
    batch.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert [asyncio.CancelledError] * 2 == [type(answer) for answer in answers]
    commands.gate.set()
    assert 6 == await commit.submit(3)


@given(st.lists(st.tuples(st.integers(-50, 50), st.booleans()), max_size=60), st.integers(1, 7), st.booleans())
def test_every_request_gets_its_own_result(requests: list[tuple[int, bool]], max_batch: int, keyed: bool) -> None:
    """With any mix of requests, failures and cancellations, no result is lost or swapped."""

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
