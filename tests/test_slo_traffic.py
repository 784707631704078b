"""What `make slo` sends, to a real server: a right one has nothing wrong, and each lie is found."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.slo.client import ApiClient, TimedResponse, connected
from bench.slo.malformed import malformed_requests
from bench.slo.probes import OVERSIZED_ROUTES, OVERSIZES, Probes
from bench.slo.schedule import repeat
from bench.slo.tally import Tally
from bench.slo.texts import Texts
from bench.slo.traffic import ECHOES_PER_LARGE, Traffic
from bench.slo.users import RunError, VirtualUser, leave, sign_up

from .conftest import Api
from .processes import PATIENCE

SCENARIOS = (
    Traffic.echo,
    Traffic.sign_in,
    Traffic.use_token,
    Traffic.refresh,
    Traffic.secret,
    Traffic.phrase,
    Traffic.message,
    Traffic.post,
    Traffic.hello,
)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts()


@asynccontextmanager
async def signed_up(api: Api, tally: Tally) -> AsyncIterator[tuple[ApiClient, list[VirtualUser]]]:
    """A client of a server, and three accounts."""
    users: list[VirtualUser] = []
    async with connected(str(api.client.make_url("/")).rstrip("/"), tally) as client:
        for _ in range(3):
            await sign_up(client, users)
        yield client, users


async def test_of_a_right_service_nothing_is_found_wrong(api: Api, texts: Texts) -> None:
    """Every scenario, twice at once; and an account that is left is gone."""
    tally = Tally()
    async with signed_up(api, tally) as (client, users):
        traffic = Traffic(client, users, texts)
        for scenario in SCENARIOS:
            await asyncio.gather(scenario(traffic), scenario(traffic))
        for _ in range(ECHOES_PER_LARGE):
            await traffic.echo()
        await leave(client, users[0])
        gone = await client.ask("POST", "/login", users[0].credentials())

    assert {} == tally.wrong
    assert {} == tally.unavailable
    assert ECHOES_PER_LARGE + 2 == len(tally.echo_seconds)
    assert tally.right > 2 * ECHOES_PER_LARGE + 60
    assert 401 == gone.status


Lie = Callable[[Any], Any]


class LyingClient(ApiClient):
    """A client that gets other answers than the server's to one kind of request."""

    def __init__(self, client: ApiClient, method: str, route: str, status: int, lie: Lie) -> None:
        super().__init__(client.url, client.tally, client._session, client._fresh)
        self._lie_about = (method, route)
        self._status, self._lie = status, lie

    async def send(self, method: str, route: str, *arguments: Any, **options: Any) -> TimedResponse:
        answer = await super().send(method, route, *arguments, **options)
        if (method, route) == self._lie_about:
            return replace(answer, status=self._status, body=self._lie(answer.body))
        return answer


def with_(**members: Any) -> Lie:
    """Return a lie about some members of an answer."""
    return lambda body: {**(body or {}), **members}


LIES: list[tuple[Any, str, str, int, Lie, str]] = [
    (Traffic.echo, "POST", "/echo", 200, with_(str="another"), "echo: another text"),
    (Traffic.echo, "POST", "/echo", 200, with_(more=1), "echo: another text"),
    (Traffic.echo, "POST", "/echo", 401, with_(), "echo: 401 for 200"),
    (Traffic.sign_in, "GET", "/me", 200, with_(username="another"), "account: another name"),
    (Traffic.sign_in, "POST", "/login", 429, with_(), "sign in: 429 for 200"),
    (Traffic.use_token, "GET", "/tokens", 200, with_(tokens=[]), "use of a token: another answer"),
    (Traffic.secret, "POST", "/secrets/{key}", 200, with_(secret="x" * 999), "secret: not once"),
    (Traffic.secret, "POST", "/secrets/{key}", 200, with_(secret="x" * 999), "secret: another text"),
    (Traffic.secret, "POST", "/secrets/{key}", 404, with_(), "secret: not once"),
    (Traffic.secret, "GET", "/receipts/{key}", 200, with_(state="waiting"), "receipt: not opened"),
    (Traffic.secret, "GET", "/secrets/{key}", 200, with_(opens_left=0), "status of a secret: not available"),
    (Traffic.phrase, "POST", "/secrets/{key}", 200, with_(secret="x" * 999), "wrong phrase: 200 for 403"),
    (Traffic.phrase, "POST", "/secrets/{key}", 403, with_(attempts_left=0), "wrong phrase: attempts left"),
    (Traffic.message, "GET", "/message/{key}", 200, with_(message="x" * 999), "message: another text"),
    (Traffic.message, "GET", "/message/{key}", 200, with_(), "burned message: 200 for 404"),
    (Traffic.post, "GET", "/posts/{key}", 200, with_(likes=99), "post: other counts"),
    (Traffic.post, "GET", "/posts/{key}", 200, with_(content=""), "post: another text"),
    (Traffic.post, "PUT", "/posts/{key}/like", 200, with_(mine="dislike"), "reaction: another one"),
    (Traffic.post, "DELETE", "/posts/{key}", 404, with_(), "delete a post: 404 for 204"),
]


async def test_each_wrong_answer_is_found(api: Api, texts: Texts) -> None:
    """Among right ones, and by its name."""
    async with signed_up(api, Tally()) as (client, users):
        for scenario, method, route, status, lie, found in LIES:
            client.tally = Tally()
            traffic = Traffic(LyingClient(client, method, route, status, lie), users, texts)
            async with asyncio.timeout(PATIENCE):
                while found not in client.tally.wrong:
                    await scenario(traffic)

            assert {} == client.tally.unavailable


async def test_what_is_not_answered_is_counted(unused_tcp_port: int, texts: Texts) -> None:
    """As not available, and as an echo that was never fast enough; not as wrong."""
    tally = Tally()
    async with connected(f"http://127.0.0.1:{unused_tcp_port}", tally) as client:
        traffic = Traffic(client, [VirtualUser("name", "password")], texts)
        for scenario in SCENARIOS:
            await scenario(traffic)
        await client.send_raw(b"GARBAGE\r\n\r\n")
        with pytest.raises(RunError, match="no response"):
            await sign_up(client, [])

    assert tally.requests == tally.unavailable.total() > len(SCENARIOS)
    assert (
        1
        == tally.unavailable["POST /echo: connection broken"]
        == tally.unavailable["malformed HTTP: connection broken"]
    )
    assert [math.inf] == tally.echo_seconds
    assert {} == tally.wrong


async def test_what_has_to_be_refused_is(api: Api) -> None:
    """Every malformed request but those that are for nginx, and every body over the limit; what passes is found."""
    tally = Tally()
    async with signed_up(api, tally) as (client, users):
        probes = Probes(client, users)
        for request in malformed_requests():
            if not request.raw:
                answer = await request.send(client, users[0].access_token)

                assert answer.is_refusal, request
        for _ in range(2 * len(OVERSIZES) * len(OVERSIZED_ROUTES)):
            await probes.oversized()
        await probes.malformed()

        assert {} == tally.not_refused == tally.oversized_passed
        accepting = Probes(LyingClient(client, "POST", "/generate", 201, with_()), users)
        for _ in range(3):
            await accepting.malformed()
            await accepting.oversized()

    assert 2 == tally.oversized_passed["/generate, 1048577 bytes: 201"]
    assert {"POST /generate, no JSON: 201", "POST /generate, wrong fields 0: 201"} == set(tally.not_refused)
    assert {} == tally.unavailable == tally.wrong


async def test_revocation_is_measured(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a deleted API token and of an ended session; one that is accepted on and on is found."""
    monkeypatch.setattr("bench.slo.probes.WATCHED", 1.5)
    tally = Tally()
    async with signed_up(api, tally) as (client, users):
        probes = Probes(client, users)
        believing = Probes(LyingClient(client, "POST", "/echo", 200, with_()), users)
        await asyncio.gather(probes.delete_api_token(20), probes.end_session(20), believing.end_session(20))
        await probes.try_again()

    assert {"API token deleted", "session ended"} == {revocation.method for revocation in probes.revocations}
    assert all(math.isfinite(revocation.seconds) for revocation in probes.revocations)
    assert all(len(revocation.attempts) > 5 for revocation in probes.revocations)
    assert [math.inf] == [revocation.seconds for revocation in believing.revocations]
    assert {} == tally.unavailable == tally.wrong


async def test_a_pace_is_kept_however_slow_the_answers_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes longer than its turn is begun beside the ones before it, and waited for."""
    moments: list[float] = []
    begun, ended = 0, 0
    begun_all = asyncio.Event()

    def monotonic() -> float:
        moments.append(time.monotonic())
        return moments[-1] - moments[0]

    async def slow() -> None:
        nonlocal begun, ended
        begun += 1
        if begun == 19:
            begun_all.set()
        await begun_all.wait()
        ended += 1

    monkeypatch.setattr("bench.slo.schedule.time", SimpleNamespace(monotonic=monotonic))
    async with asyncio.timeout(PATIENCE):
        await repeat(40, 0.5, slow)

    assert 19 <= begun == ended <= 20
