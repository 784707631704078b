"""What the objectives say, where it is hardest to hold: under load, beside slow clients, and in a flood."""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path

import pytest
from aiohttp import ClientSession

from bench.latency import percentile
from bench.running_stack import RunningStack, running_stack
from bench.slo.objectives import ECHO_SECONDS, REVOCATION_SECONDS, SHARE
from bench.slo.schedule import repeat
from bench.slo.texts import LARGEST_ECHO, LAST, SURROGATES, cut

from ..processes import PATIENCE
from .conftest import KEYS
from .mongod import Mongod
from .slow import SLOW_TEXT, SlowClients
from .test_accounts import ask, at_worker, do, from_address, register, sign_up
from .test_restart import all_running
from .traffic import create, open_secret

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
AT_ONCE = 16
BUSY = 10
"""Factor that a busy machine may add to the slowest echoes."""
ECHOES_PER_SECOND = 40
ALONE_SECONDS, BESIDE_SECONDS = 5.0, 14.0
FLOOD_SECONDS = 6.0
DEFAULT_RATE, DEFAULT_BURST = 50, 100
"""What an address may do: SEALPOST_RATE_ALL, and the burst of confs/nginx."""


async def token_for_echo(client: ClientSession) -> str:
    """Return an API token of a new user."""
    user = await sign_up(client)
    return str((await make_token(client, user.token))["token"])


async def make_token(client: ClientSession, access_token: str) -> dict[str, str]:
    made: dict[str, str] = await do(client, "POST", "/tokens", {"name": "echo", "scopes": ["echo"]}, token=access_token)
    return made


async def echo_status(client: ClientSession, token: str) -> int:
    return (await ask(client, "POST", "/echo", {"str": "s"}, token=token)).status


async def measure_echo(client: ClientSession, token: str, seconds: float) -> list[float]:
    """Echo at a steady pace, each answer right, and return how many seconds each took."""
    times: list[float] = []

    async def echo() -> None:
        text = f"echo {len(times)}"
        outcome = await ask(client, "POST", "/echo", {"str": text}, token=token)
        times.append(outcome.seconds)

        assert (200, {"str": text}) == (outcome.status, outcome.body)

    await repeat(ECHOES_PER_SECOND, time.monotonic() + seconds, echo)
    return times


@asynccontextmanager
async def under_load(client: ClientSession, token: str) -> AsyncIterator[Counter[int]]:
    """Keep every worker busy with echoes and creations inside the block; the statuses are counted."""
    statuses: Counter[int] = Counter()

    async def work() -> None:
        while True:
            statuses[await echo_status(client, token)] += 1
            statuses[(await ask(client, "POST", "/generate", {"secret": "load"})).status] += 1

    tasks = [asyncio.create_task(work()) for _ in range(AT_ONCE)]
    try:
        yield statuses
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.timed
async def test_under_load_an_api_token_deleted_at_one_worker_is_refused_by_all(
    stack: RunningStack, client: ClientSession
) -> None:
    """Each asked on its own socket, within two seconds of the deletion's answer, and by none again."""
    await all_running(stack)
    owner = await sign_up(client)
    async with AsyncExitStack() as exits:
        workers = [await exits.enter_async_context(at_worker(stack, number)) for number in range(1, 5)]
        load = await exits.enter_async_context(under_load(client, await token_for_echo(client)))

        async def seconds_accepted(deleting: ClientSession) -> float:
            made = await make_token(client, owner.token)
            for worker in workers:
                assert 200 == await echo_status(worker, made["token"])
            await do(deleting, "DELETE", f"/tokens/{made['id']}", token=owner.token)
            ended = last = time.monotonic()
            while (asked := time.monotonic()) < ended + 2 * REVOCATION_SECONDS:
                statuses = await asyncio.gather(*(echo_status(worker, made["token"]) for worker in workers))

                assert {200, 401} >= set(statuses)
                last = asked if 200 in statuses else last
            return last - ended

        slowest = max(await asyncio.gather(*(seconds_accepted(worker) for worker in workers)))

    assert slowest < REVOCATION_SECONDS
    assert {200, 201} == set(load)
    assert min(load.values()) > AT_ONCE


@pytest.mark.timed
async def test_slow_clients_slow_nobody_else_down(stack: RunningStack, client: ClientSession) -> None:
    """A hundred who send or read a byte a second hold up no echo, and those who finish are answered right.

    A request that waited for them would wait for seconds. `make slo` measures the objective.
    """
    await all_running(stack)
    token = await token_for_echo(client)
    host, port = stack.url.removeprefix("http://").split(":")
    slow = SlowClients(host, int(port), token)
    alone = await measure_echo(client, token, ALONE_SECONDS)
    async with slow.at_work():
        beside = await measure_echo(client, token, BESIDE_SECONDS)
        async with asyncio.timeout(PATIENCE):
            while len(slow.bodies) < 33:
                await asyncio.sleep(0.1)

    assert percentile(beside, 0.5) < ECHO_SECONDS, f"alone, it was {percentile(alone, 0.5)} s"
    assert percentile(beside, SHARE) < BUSY * ECHO_SECONDS, f"alone, it was {percentile(alone, SHARE)} s"
    for answer in slow.bodies:
        head, _, body = answer.partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 200 ")
        assert {"str": SLOW_TEXT} == json.loads(body)
    key = await create(client, "after the slow ones")
    assert [200, 404] == [(await open_secret(client, key)).status for _ in range(2)]


@pytest.fixture(scope="module")
def limited(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack with the limits that it comes with."""
    directory = tmp_path_factory.mktemp("flooded")
    environment = {
        "SEALPOST_MONGO_URL": mongod.url,
        "SEALPOST_MONGO_DATABASE": "flooded",
        "SEALPOST_KEYS": KEYS,
        "SEALPOST_BCRYPT_COST": "4",
    }
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


@pytest.mark.timed
async def test_a_flood_from_one_address_is_refused_and_another_is_served(limited: RunningStack) -> None:
    """The flood gets what an address may have, and 429 for the rest; the other's echoes are all answered."""
    host, port = limited.url.removeprefix("http://").split(":")
    async with from_address(limited, "127.0.0.3") as client:
        name = await register(client)
        credentials = {"username": name, "password": "Leak-Password-90d1c2"}
        token = (await do(client, "POST", "/login", credentials))["access_token"]
        flood = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.stack.flood", host, port, "127.0.0.2", str(FLOOD_SECONDS)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert flood.stdout is not None
        assert b"begun\n" == await flood.stdout.readline()
        times = await measure_echo(client, token, FLOOD_SECONDS - 0.5)
        answers = Counter[str](json.loads(await flood.stdout.read()))

        assert 0 == await flood.wait()
    refused = answers.pop("429 too_many 1")
    served = answers.pop("401 unauthorized -")

    assert {} == answers
    assert served <= DEFAULT_RATE * (FLOOD_SECONDS + 5) + DEFAULT_BURST
    assert refused > served
    assert percentile(times, 0.5) < ECHO_SECONDS
    assert percentile(times, SHARE) < BUSY * ECHO_SECONDS


async def test_an_echo_has_all_of_unicode_up_to_the_limit_of_a_body(client: ClientSession) -> None:
    """Every character of every plane, as it is and escaped, in bodies of up to 1 MB to the byte; one more is a 413."""
    token = await token_for_echo(client)
    everything = "".join(chr(number) for number in range(LAST + 1) if number not in SURROGATES)
    room = LARGEST_ECHO - len('{"str":}')
    pieces = cut(everything, room)
    bodies = [f'{{"str":{json.dumps(piece, ensure_ascii=False)}}}'.encode() for piece in pieces]
    fill = LARGEST_ECHO - len(bodies[-1])
    pieces[-1], bodies[-1] = pieces[-1] + "x" * fill, bodies[-1][:-2] + b"x" * fill + b'"}'
    escaped_pieces = [
        everything[start : start + LARGEST_ECHO // 13] for start in range(0, len(everything), LARGEST_ECHO // 13)
    ]
    escaped = [json.dumps({"str": piece}).encode() for piece in escaped_pieces]

    assert LARGEST_ECHO == len(bodies[-1])
    for text, body in zip([*pieces, *escaped_pieces], [*bodies, *escaped], strict=True):
        async with client.post("/echo", data=BytesIO(body), headers={"Authorization": f"Bearer {token}"}) as response:
            assert 200 == response.status
            assert {"str": text} == json.loads(await response.read())
    async with client.post(
        "/echo", data=BytesIO(bodies[-1] + b" "), headers={"Authorization": f"Bearer {token}"}
    ) as response:
        assert 413 == response.status


async def test_an_echo_is_of_the_characters_and_not_of_their_looks(client: ClientSession) -> None:
    """Nothing is normalised, reordered, cut or mended; what is no character is refused."""
    token = await token_for_echo(client)
    texts = [
        "",
        "\0",
        "a\0b",
        "\ufffe\uffff\U0001fffe\U0010ffff\ufdd0",
        "\u202eright to left\u202c \u05d0\u05d1 \u0627",
    ]
    texts += [
        "e\u0301 \u00e9",
        "\u1e9b\u0323",
        "\u212b\ufb03",
        "\r\n\r \t",
        "\ufeff",
        "\u2028\u2029",
        "👩‍👩‍👧‍👦",
        '"\\/\b\f',
    ]
    for text in texts:
        assert {"str": text} == await do(client, "POST", "/echo", {"str": text}, token=token)
    for half in (
        rb"\ud800",
        rb"\udbff",
        rb"\udc00",
        rb"\udfff",
        rb"\udc00\ud800",
        rb"\ud800a",
        b"\xed\xa0\x80",
        b"\xc0\x80",
    ):
        body = b'{"str": "' + half + b'"}'
        async with client.post("/echo", data=BytesIO(body), headers={"Authorization": f"Bearer {token}"}) as response:
            assert 400 == response.status
            assert "malformed" == (await response.json(content_type="application/problem+json"))["code"]
