"""`gather --follow`: every line that is in the spool arrives once and in order, whatever dies meanwhile."""

import asyncio
import errno
import fcntl
import signal
import struct
import termios
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from src.client.errors import ClientError
from src.client.gathering import follower
from src.client.gathering.delivery import RetryingSender
from src.client.gathering.follower import SYNC_SECONDS
from src.client.gathering.session import SenderSession
from src.client.gathering.spool import Spool
from src.client.transport import Transport

from ..conftest import Api
from ..processes import PATIENCE
from ..senders import operator_token, sent
from .conftest import Typed
from .following import USER, Pipe, following, spooled
from .gate import Gate, gate_to
from .servers import odd_server, reply

LOST = 3


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    found = Pipe()
    yield found
    found.close()


@pytest.fixture
async def gate(url: str) -> AsyncIterator[Gate]:
    """What a test can close between the client and the server."""
    async with gate_to(url) as found:
        yield found


async def texts(api: Api) -> list[str]:
    """Return what is stored of the user, in its order."""
    return [text for name, _, text in await sent(api, await operator_token(api)) if name == USER]


async def arrived(api: Api, count: int) -> None:
    """Wait until so many messages are stored."""
    async with asyncio.timeout(PATIENCE):
        while sum([one["count"] async for one in api.mongo.collection("gathered").find({}, {"count": 1})]) < count:
            await asyncio.sleep(0.02)


async def lost(gate: Gate) -> None:
    """Wait until an answer is lost, where some are to be."""
    async with asyncio.timeout(PATIENCE):
        while gate.loses and not gate.lost:
            await asyncio.sleep(0.02)


async def unread(pipe: Pipe, count: int = 0) -> None:
    """Wait until no more than so many bytes are in a pipe."""
    async with asyncio.timeout(PATIENCE):
        while struct.unpack("i", fcntl.ioctl(pipe.outer, termios.FIONREAD, b"\x00" * 4))[0] > count:
            await asyncio.sleep(0.02)


def without_progress(said: list[str]) -> list[str]:
    """Return what was said, without what is said every few seconds by a client that takes so long."""
    return [line for line in said if not line.endswith("left to deliver")]


def summary(**counts: int) -> dict[str, int]:
    """Return a summary with these counts, and zeros."""
    names = ("read", "delivered", "batches", "resent", "cut", "refused", "waiting")
    return {name: counts.get(name, 0) for name in names}


async def test_lines_arrive_as_they_were_read(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """Empty ones, `logout`, bytes that are no UTF-8, a last one without its end; as soon as they are there."""
    async with following(pipe, url, state=tmp_path) as client:
        await pipe.write(b"one\n\nlogout\ncaf\xe9\n")
        await arrived(api, 4)
        await pipe.write(b"the \xe2\x82\xac")
        await pipe.write(b"\x00 end")
        pipe.end()
        ended = await client.end()

    assert (0, summary(read=5, delivered=5, batches=2)) == ended
    assert ["web-1 is new: the given password is now its password"] == without_progress(client.said)
    assert ["one", "", "logout", "caf�", "the €\x00 end"] == await texts(api)
    assert ["lock"] == [path.name for path in tmp_path.rglob("*") if path.is_file()]


async def test_a_file_is_an_input(api: Api, url: str, tmp_path: Path) -> None:
    """Read to its end, in batches of a thousand lines."""
    lines = [f"line {number}" for number in range(2500)]
    (tmp_path / "log").write_text("\n".join(lines))
    with (tmp_path / "log").open("rb") as file:
        async with following(file.fileno(), url, state=tmp_path) as client:
            ended = await client.end()

    assert (0, summary(read=2500, delivered=2500, batches=3)) == ended
    assert lines == await texts(api)


async def test_lines_of_a_windows_program_arrive(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """UTF-16 with a byte order mark, as soon as a line is there, however it is cut; also where a signal ends it."""
    raw = "\ufeffeins ☕\r\nzwei\n".encode("utf-16-le")
    async with following(pipe, url, state=tmp_path) as client:
        await pipe.write(raw[:1])
        await unread(pipe)
        await pipe.write(raw[1:9])
        await unread(pipe)
        await pipe.write(raw[9:])
        await arrived(api, 2)
        ended = await client.end(signal.SIGTERM)

    assert (0, summary(read=2, delivered=2, batches=1)) == ended
    assert ["eins ☕\r", "zwei"] == await texts(api)


@pytest.mark.lifecycle
async def test_lines_wait_while_the_server_is_away(api: Api, gate: Gate, pipe: Pipe, tmp_path: Path) -> None:
    """From the start, and later on; it is said once, and so is its end."""
    gate.close()
    async with following(pipe, gate.url, state=tmp_path) as client:
        await pipe.write(b"one\ntwo\n")
        await client.expect("Retrying; lines stay in the spool")
        gate.open()
        await arrived(api, 2)
        await client.expect("delivering again, after")
        gate.close()
        await pipe.write(b"three\n")
        await client.expect("was lost. Retrying; lines stay")
        await pipe.write(b"four\n" * 2000)
        pipe.end()
        gate.open()
        ended = await client.end()

    assert (0, 2003) == (ended[0], ended[1]["delivered"])
    assert ["one", "two", "three", *["four"] * 2000] == await texts(api)
    assert 2 == sum("lines stay" in line for line in client.said) == sum("again, after" in line for line in client.said)


async def test_a_lost_answer_stores_nothing_twice(api: Api, gate: Gate, pipe: Pipe, tmp_path: Path) -> None:
    """The batch is sent again under its id until the answer comes through."""
    gate.text, gate.loses = b'"MESSAGE"', LOST
    async with following(pipe, gate.url, state=tmp_path) as client:
        await pipe.write(b"one\ntwo\n")
        pipe.end()
        ended = await client.end()

    assert LOST == gate.lost
    assert (0, summary(read=2, delivered=2, batches=1, resent=LOST)) == ended
    assert ["one", "two"] == await texts(api)


@pytest.mark.lifecycle
async def test_a_client_that_is_killed_loses_and_doubles_nothing(
    api: Api, gate: Gate, pipe: Pipe, tmp_path: Path
) -> None:
    """Before an answer, between answers, and with a line half read; what it has not read waits in the pipe."""
    lines = [f"line {number} " + "x" * (number % 90) for number in range(8_000)]
    content = "".join(f"{line}\n" for line in lines).encode()
    ends = [0, 150_017, 300_001, len(content)]
    # What the first client stores is never confirmed to it.
    gate.text, gate.loses = b'"MESSAGE"', 1_000_000
    for begin, end, stored in zip(ends, ends[1:], (1_000, 3_000, 3_001), strict=False):
        writing = asyncio.create_task(pipe.write(content[begin:end]))
        async with following(pipe, gate.url, state=tmp_path) as client:
            await writing
            await arrived(api, stored)
            await lost(gate)
            if end < len(content):
                # It is killed with the beginning of a line, which stays in the spool until its end comes.
                await spooled(tmp_path, content[end - 3 : end])
            else:
                pipe.end()
                code, counts = await client.end()
        gate.loses = 0

    assert (0, 0) == (code, counts["waiting"])
    assert gate.lost > 0
    assert lines == await texts(api)


async def test_the_beginning_of_a_line_is_gone_on_with(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """By a client that reads from the same pipe; from another one, it is a line of its own."""
    other = Pipe()
    for one, data in ((pipe, b"from the sa"), (pipe, b"me pi"), (pipe, b"pe\nfrom ano")):
        async with following(one, url, state=tmp_path):
            await one.write(data)
            await unread(one)
            await spooled(tmp_path, data[-4:])
    async with following(other, url, state=tmp_path) as client:
        await other.write(b"ther\n")
        other.end()
        await client.end()
    other.close()

    assert ["from the same pipe", "from ano", "ther"] == await texts(api)


async def test_a_full_spool_stops_the_reading(api: Api, gate: Gate, pipe: Pipe, tmp_path: Path) -> None:
    """Whoever writes has to wait; nothing is lost, and it goes on as soon as there is room."""
    line = b"x" * 1000 + b"\n"
    gate.close()
    async with following(pipe, gate.url, "--spool-limit", "1", state=tmp_path) as client:
        writing = asyncio.create_task(pipe.write(line * 2000))
        await client.expect("the spool is full")
        used = sum(path.stat().st_size for path in tmp_path.rglob("*.batch"))

        assert not writing.done()
        assert 1024 * 1024 <= used < 1024 * 1024 + 200_000
        gate.open()
        await writing
        pipe.end()
        ended = await client.end()

    assert (0, 2000) == (ended[0], ended[1]["delivered"])
    assert 2000 == len(await texts(api))


async def test_a_wrong_password_ends_it_and_keeps_the_lines(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """The next run, with the right one, sends them first."""
    await api.register(USER)
    async with following(pipe, url, state=tmp_path, SEALPOST_PASSWORD="a wrong one") as client:
        await pipe.write(b"one\n")
        wrong = await client.end()
    await pipe.write(b"two\n")
    pipe.end()
    async with following(pipe, url, state=tmp_path) as again:
        right = await again.end()

    assert (1, f"wrong password for {USER} at {url}") == (wrong[0], client.said[-1])
    assert (0, 2) == (right[0], right[1]["delivered"])
    assert ["one", "two"] == await texts(api)


async def test_an_api_token_needs_no_steps(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """One with the scope; one that is no good, or for something else, ends it."""
    access_token = await api.sign_up(USER)
    tokens = []
    for scope in ("gather", "echo"):
        body = {"name": scope, "scopes": [scope]}
        tokens.append((await api.call("POST", "/tokens", body, token=access_token))[1]["token"])
    await pipe.write(b"one\n")
    pipe.end()
    codes = []
    for token in ("sp_none", tokens[1], tokens[0]):
        async with following(pipe, url, state=tmp_path, SEALPOST_TOKEN=token) as client:
            codes.append((await client.end())[0])

    assert [4, 1, 0] == codes
    assert ["one"] == await texts(api)


async def test_another_program_may_log_out(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """Then this one identifies and authenticates again, and sends on."""
    async with following(pipe, url, state=tmp_path) as client:
        await pipe.write(b"one\n")
        await arrived(api, 1)
        await api.mongo.collection("gathered_states").delete_many({})
        await pipe.write(b"two\n")
        pipe.end()
        ended = await client.end()

    assert (0, summary(read=2, delivered=2, batches=2, resent=1)) == ended
    assert ["one", "two"] == await texts(api)


ACCEPTED = reply(202, '{"token": "a token", "expires_in": 600, "status_code": 202}')
STORED = reply(201, '{"first_sequence": 1, "last_sequence": 1}')


def problem(status: int, code: str, **headers: str) -> bytes:
    """Return a refusal."""
    return reply(status, f'{{"code": "{code}", "detail": "It is {code}."}}', **headers)


@pytest.mark.parametrize("code", ["batch_reused", "too_large"])
async def test_what_is_never_taken_is_kept_aside(pipe: Pipe, tmp_path: Path, code: str) -> None:
    """In a file whose name is told; the lines behind it are sent, and the exit code says that something is left."""
    replies = [ACCEPTED, ACCEPTED, problem(409, code), STORED]
    async with odd_server(replies) as server, following(pipe, server.url, state=tmp_path) as client:
        await pipe.write(b"one\n")
        await client.expect("for good")
        await pipe.write(b"two\n")
        pipe.end()
        ended = await client.end()
    (aside,) = tmp_path.rglob("*.refused")

    assert (1, summary(read=2, delivered=1, batches=1, refused=1)) == ended
    assert without_progress(client.said)[-1].endswith(f"It is {code}. They are kept in {aside}")
    assert b"one\n" in aside.read_bytes()


async def test_what_passes_is_waited_for(pipe: Pipe, tmp_path: Path) -> None:
    """Limits, a server that cannot work, another program at the address, and steps that were taken back meanwhile."""
    passing = [
        problem(429, "limit_reached", Retry_After="0"),
        problem(409, "username_taken"),
        ACCEPTED,
        problem(503, "unavailable"),
        problem(403, "out_of_order"),
        ACCEPTED,
        ACCEPTED,
        problem(403, "other_address"),
        ACCEPTED,
        ACCEPTED,
        problem(401, "invalid_token"),
        ACCEPTED,
        ACCEPTED,
        reply(200, "<html>Please pay for your room</html>"),
        reply(201, '{"first_sequence": 1, "last_sequence": 7}'),
        reply(502, "nginx"),
        STORED,
    ]
    async with odd_server(passing) as server, following(pipe, server.url, state=tmp_path) as client:
        await pipe.write(b"one\n")
        pipe.end()
        ended = await client.end()
    batches = {request.partition('"batch": ')[2] for request in server.requests if "/message" in request}

    assert (0, summary(read=1, delivered=1, batches=1, resent=5)) == ended
    assert (len(passing), 1) == (len(server.requests), len(batches))


@pytest.mark.parametrize(
    ("replies", "code", "words"),
    [
        ([problem(404, "not_found")], 1, "It is not_found"),
        ([problem(400, "malformed")], 1, "It is malformed"),
        ([ACCEPTED, problem(403, "account_disabled")], 1, "It is account_disabled"),
        ([ACCEPTED, ACCEPTED, problem(403, "something_new")], 1, "It is something_new"),
    ],
)
async def test_what_waiting_does_not_mend_ends_it(
    pipe: Pipe, tmp_path: Path, replies: list[bytes], code: int, words: str
) -> None:
    """With the server's words, and with the line in the spool or the pipe."""
    async with odd_server(replies) as server, following(pipe, server.url, state=tmp_path) as client:
        await pipe.write(b"one\n")
        ended = await client.end()

    assert (code, True) == (ended[0], words in client.said[-1])


@pytest.mark.lifecycle
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it(api: Api, gate: Gate, pipe: Pipe, tmp_path: Path, number: signal.Signals) -> None:
    """With what is left told where the server is away; with all of it delivered where it is not."""
    gate.close()
    async with following(pipe, gate.url, state=tmp_path) as client:
        await pipe.write(b"one\n")
        await client.expect("lines stay")
        left = await client.end(number)
    gate.open()
    await pipe.write(b"two\n")
    async with following(pipe, gate.url, state=tmp_path) as again:
        await arrived(api, 2)
        await pipe.write(b"three\nfour")
        done = await again.end(number)

    assert (130, summary(read=1, waiting=1)) == left
    assert "1 line left in" in client.said[-1]
    assert "1 line left in the spool" in again.said[0]
    assert (0, ["one", "two", "three"]) == (done[0], await texts(api))


async def test_one_follows_at_a_time(api: Api, url: str, pipe: Pipe, tmp_path: Path) -> None:
    """A second one for the same user, server and spool is told so; with a spool of its own it may."""
    async with following(pipe, url, state=tmp_path):
        await pipe.write(b"one\n")
        await arrived(api, 1)
        async with following(pipe, url, state=tmp_path, user=USER.upper()) as second:
            refused = await second.end()
        async with following(pipe, url, "--spool", str(tmp_path / "own"), state=tmp_path) as third:
            pipe.end()
            own = await third.end()

    assert (1, {}) == refused
    assert "another `gather --follow`" in second.said[-1]
    assert 0 == own[0]


class Disk(Spool):
    """A spool whose disk fails for a while."""

    def __init__(self, directory: Path, *errors: int) -> None:
        super().__init__(directory, source="", limit=1 << 20)
        self.errors = list(errors)

    def write(self) -> None:
        if self.errors and self._buffer:
            raise OSError(self.errors.pop(), "The disk says so")
        super().write()


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "is full: reading pauses"), (errno.EIO, "The disk says so")]
)
async def test_a_full_disk_is_waited_for(
    pipe: Pipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    """Once it has room, the lines are delivered; a disk that fails ends it with words."""
    monkeypatch.setattr(follower, "DISK_SECONDS", 0.01)
    said: list[str] = []
    summary_ = follower.Summary()
    await pipe.write(b"one\n")
    pipe.end()
    with closing(Disk(tmp_path / "spool", number, number)) as spool:
        spool.open()
        async with (
            odd_server([ACCEPTED, ACCEPTED, STORED]) as server,
            Transport(server.url, tls=None, timeout=PATIENCE) as transport,
        ):
            delivery = RetryingSender(SenderSession(transport), username=USER, password="x", words={}, say=said.append)
            run = follower.Follower(
                follower.StandardInput(pipe.outer), spool, delivery, summary_, say=said.append
            ).run()
            if number == errno.EIO:
                with pytest.raises(ClientError, match=words):
                    await run
            else:
                await run

    assert (number == errno.ENOSPC) == (summary_.delivered == 1) == any(words in line for line in said)


async def test_a_long_line_goes_in_pieces(api: Api, gate: Gate, pipe: Pipe, tmp_path: Path) -> None:
    """Which is said; what waits longer than a second is synced meanwhile."""
    gate.close()
    async with following(pipe, gate.url, state=tmp_path) as client:
        await pipe.write(b"one\n")
        await client.expect("lines stay")
        await pipe.write(b"two\n")
        await asyncio.sleep(SYNC_SECONDS * 1.2)
        await pipe.write(b"x" * 1_500_000)
        gate.open()
        await client.expect("sent as several")
        pipe.end()
        ended = await client.end()
    found = await texts(api)

    assert (0, 3, 4, 1) == (ended[0], ended[1]["read"], ended[1]["delivered"], ended[1]["cut"])
    assert ["one", "two", "x" * 1_500_000] == [*found[:2], "".join(found[2:])]


async def test_wrong_usage_sends_nothing(url: str, typed: Typed) -> None:
    """And says what to do instead."""
    for words, *options in (
        ("needs --user", "--follow"),
        ("3 to 32 characters", "--follow", "--user", "a b"),
        ("require --follow", "--json"),
        ("require --follow", "--spool", "x"),
        ("add --follow", "--user", USER),
    ):
        ended = await typed("gather", *options)

        assert (2, True) == (ended.code, words in ended.stderr), ended
