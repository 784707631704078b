"""Accounts through nginx and 4 workers: every worker knows the changes of the others."""

import asyncio
import json
import os
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector, UnixConnector
from pymongo import AsyncMongoClient

from bench.running_stack import RunningStack, running_stack

from ..conftest import seconds_accepted
from ..processes import PATIENCE
from .conftest import KEYS, grep_logs
from .mongod import Mongod
from .test_edge import raw
from .test_restart import all_running
from .traffic import Outcome

pytestmark = pytest.mark.stack

PASSWORD = "Leak-Password-90d1c2"
KNOWN_WITHIN = 2.0  # seconds from the answer until every worker has to know
ROUNDS = 3
TRIES_PER_ACCOUNT, TRIES_PER_ADDRESS = 10, 30
WINDOW = 900  # seconds
MONGO_TIMEOUT, REQUEST_TIMEOUT = 2, 50  # seconds


@dataclass(frozen=True)
class SignedIn:
    """A user with two sessions and an API token."""

    name: str
    own: dict[str, Any]
    other: dict[str, Any]
    api_token: dict[str, Any]

    @property
    def token(self) -> str:
        return str(self.own["access_token"])

    @property
    def other_token(self) -> str:
        return str(self.other["access_token"])


async def ask(
    client: ClientSession, method: str, path: str, body: object = None, *, token: str = "", **headers: str
) -> Outcome:
    """Send a request; status 0 when the connection broke."""
    if token:
        headers["Authorization"] = f"Bearer {token}"
    begun = time.monotonic()
    try:
        async with client.request(method, path, json=body, headers=headers) as response:
            answer = await response.json(content_type=None) if response.status != 204 else {}
            return Outcome(response.status, answer, response.headers.get("Retry-After"), time.monotonic() - begun)
    except ClientError:
        return Outcome(0, {}, None, time.monotonic() - begun)


async def do(client: ClientSession, method: str, path: str, body: object = None, *, token: str = "") -> Any:
    """Send a request that has to succeed and return the answer."""
    outcome = await ask(client, method, path, body, token=token)

    assert outcome.status in {200, 201, 204}, outcome
    return outcome.body


async def log_in(client: ClientSession, name: str, password: str = PASSWORD) -> Any:
    return await do(client, "POST", "/login", {"username": name, "password": password})


async def register(client: ClientSession) -> str:
    """Make an account and return its name."""
    name = f"user-{secrets.token_hex(8)}"
    await do(client, "POST", "/register", {"username": name, "password": PASSWORD})
    return name


async def sign_up(client: ClientSession) -> SignedIn:
    name = await register(client)
    own, other = await log_in(client, name), await log_in(client, name)
    body = {"name": "test", "scopes": ["secrets"]}
    return SignedIn(name, own, other, await do(client, "POST", "/tokens", body, token=own["access_token"]))


def at_worker(stack: RunningStack, number: int) -> ClientSession:
    """Return a client of one worker, bypassing nginx."""
    connector = UnixConnector(str(stack.run_dir / f"worker-{number}.sock"))
    return ClientSession("http://worker", connector=connector, timeout=ClientTimeout(total=60))


@pytest.fixture
async def workers(stack: RunningStack) -> AsyncIterator[list[ClientSession]]:
    """A client of each worker, bypassing nginx."""
    await all_running(stack)
    async with AsyncExitStack() as clients:
        yield [await clients.enter_async_context(at_worker(stack, number)) for number in range(1, 5)]


async def status_of(client: ClientSession, token: str) -> int:
    """Return 401 for a rejected token, 200 for an access token, 403 for an API token, which has no access here."""
    return (await ask(client, "GET", "/me", token=token)).status


async def accepted_for(client: ClientSession, token: str) -> float:
    return await seconds_accepted(lambda: status_of(client, token))


Tokens = list[str]
Ending = Callable[[ClientSession, SignedIn], Awaitable[tuple[Tokens, Tokens]]]


async def sign_out(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    await do(worker, "POST", "/logout", token=user.token)
    return [user.token], [user.other_token, user.api_token["token"]]


async def end_the_other_session(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    listed = await do(worker, "GET", "/sessions", token=user.token)
    [session_id] = [session["id"] for session in listed["sessions"] if not session["current"]]
    await do(worker, "DELETE", f"/sessions/{session_id}", token=user.token)
    return [user.other_token], [user.token, user.api_token["token"]]


async def change_the_password(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    await do(worker, "PUT", "/me/password", {"current": PASSWORD, "new": PASSWORD + "2"}, token=user.token)
    return [user.other_token], [user.token, user.api_token["token"]]


async def delete_the_account(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    await do(worker, "DELETE", "/me", {"password": PASSWORD}, token=user.token)
    return [user.token, user.other_token, user.api_token["token"]], []


async def delete_the_api_token(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    await do(worker, "DELETE", f"/tokens/{user.api_token['id']}", token=user.token)
    return [user.api_token["token"]], [user.token, user.other_token]


async def refresh_twice(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    body = {"refresh_token": user.own["refresh_token"]}
    following = await do(worker, "POST", "/refresh", body)
    assert (await ask(worker, "POST", "/refresh", body)).status == 401
    return [user.token, following["access_token"]], [user.other_token, user.api_token["token"]]


async def sign_out_a_browser(worker: ClientSession, user: SignedIn) -> tuple[Tokens, Tokens]:
    page = {"Sec-Fetch-Site": "same-origin"}
    body = {"username": user.name, "password": PASSWORD, "cookie": True}
    signed_in = await ask(worker, "POST", "/login", body, **page)
    refreshed = await ask(worker, "POST", "/refresh", {"cookie": True}, **page)
    assert (204, 401) == (
        (await ask(worker, "POST", "/logout", **page)).status,
        (await ask(worker, "POST", "/refresh", {"cookie": True}, **page)).status,
    )
    tokens = [outcome.body["access_token"] for outcome in (signed_in, refreshed)]
    return tokens, [user.token, user.other_token, user.api_token["token"]]


@pytest.mark.timed
@pytest.mark.parametrize(
    "ending",
    [
        sign_out,
        sign_out_a_browser,
        end_the_other_session,
        change_the_password,
        delete_the_account,
        delete_the_api_token,
        refresh_twice,
    ],
)
async def test_an_end_on_one_worker_is_known_to_all_within_two_seconds(
    client: ClientSession, workers: list[ClientSession], ending: Ending
) -> None:
    """Each worker, on its own socket, and nginx reject ended credentials; the others remain valid."""
    everywhere = [*workers, client]

    async def one_round(number: int) -> float:
        # The workers query twice a second, so the rounds hit different phases.
        await asyncio.sleep(number * 0.17)
        user = await sign_up(client)
        for token, good in ((user.token, 200), (user.other_token, 200), (user.api_token["token"], 403)):
            assert [good] * 5 == await asyncio.gather(*(status_of(one, token) for one in everywhere))
        ended, kept = await ending(workers[number % 4], user)
        seconds = await asyncio.gather(*(accepted_for(one, token) for one in everywhere for token in ended))
        for token in ended:
            assert {401} == set(await asyncio.gather(*(status_of(client, token) for _ in range(20))))
        for token in kept:
            assert 401 not in await asyncio.gather(*(status_of(one, token) for one in everywhere))
        return max(seconds)

    slowest = max(await asyncio.gather(*(one_round(number) for number in range(ROUNDS))))

    assert slowest < KNOWN_WITHIN


@pytest.mark.timed
@pytest.mark.parametrize("at_once", [2, 8])
async def test_a_refresh_token_sent_in_parallel_ends_its_session(
    client: ClientSession, workers: list[ClientSession], at_once: int
) -> None:
    """At most one response has tokens, and these end as well: the thief cannot be told from the owner."""
    name = await register(client)
    for _ in range(20):
        first = await log_in(client, name)
        body = {"refresh_token": first["refresh_token"]}
        outcomes = await asyncio.gather(
            *(ask(workers[number % 4], "POST", "/refresh", body) for number in range(at_once))
        )
        winners = [outcome.body for outcome in outcomes if outcome.status == 200]

        assert [200] + [401] * (at_once - 1) == sorted(outcome.status for outcome in outcomes)
        for worker in workers:
            outcome = await ask(worker, "POST", "/refresh", {"refresh_token": winners[0]["refresh_token"]})
            assert outcome.status == 401
    tokens = (first["access_token"], winners[0]["access_token"])
    seconds = await asyncio.gather(*(accepted_for(worker, token) for worker in workers for token in tokens))
    assert max(seconds) < KNOWN_WITHIN


async def test_of_a_hundred_who_register_one_name_at_once_one_succeeds(client: ClientSession) -> None:
    """In any case of letters, 5 times over."""
    for _ in range(5):
        name = "name-" + "".join(secrets.choice("abcdefgh") for _ in range(20))
        names = ["".join(secrets.choice((letter, letter.upper())) for letter in name) for _ in range(100)]
        outcomes = await asyncio.gather(
            *(ask(client, "POST", "/register", {"username": one, "password": PASSWORD}) for one in names)
        )
        statuses = Counter(outcome.status for outcome in outcomes)

        assert {201: 1, 409: 99} == statuses
        assert {"username_taken"} == {outcome.body["code"] for outcome in outcomes if outcome.status == 409}
        await log_in(client, name.upper())


@pytest.fixture(scope="module")
def limited(mongod: Mongod, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that limits attempts on credentials, with hardly any limits in nginx."""
    directory = tmp_path_factory.mktemp("accounts")
    environment = {
        "SEALPOST_MONGO_URL": mongod.url,
        "SEALPOST_MONGO_DATABASE": "limited",
        "SEALPOST_KEYS": KEYS,
        "SEALPOST_BCRYPT_COST": "4",
        "SEALPOST_MONGO_TIMEOUT": str(MONGO_TIMEOUT),
        "SEALPOST_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
        "SEALPOST_RATE_ALL": "1000r/s",
        "SEALPOST_LIMIT_REGISTER": "1000 per 1 hour",
        "SEALPOST_LIMIT_LOGIN_ACCOUNT": f"{TRIES_PER_ACCOUNT} per 15 minutes",
        "SEALPOST_LIMIT_LOGIN_ADDRESS": f"{TRIES_PER_ADDRESS} per 15 minutes",
    }
    with running_stack(data_dir=directory, log_dir=directory / "logs", environment=environment) as running:
        yield running


def from_address(running: RunningStack, address: str) -> ClientSession:
    """Return a client with its own address; all of 127.0.0.0/8 is this machine."""
    connector = TCPConnector(limit=0, local_addr=(address, 0))
    return ClientSession(running.url, connector=connector, timeout=ClientTimeout(total=60))


async def attempt(client: ClientSession, name: str, password: str, **headers: str) -> Outcome:
    return await ask(client, "POST", "/login", {"username": name, "password": password}, **headers)


@pytest.mark.parametrize(("exists", "address"), [(True, "127.0.1.1"), (False, "127.0.1.2")])
async def test_all_workers_together_check_as_many_passwords_as_are_allowed(
    limited: RunningStack, exists: bool, address: str
) -> None:
    """Of 50 parallel wrong passwords exactly 10 are checked, then the right one is rejected too, account or none."""
    async with from_address(limited, address) as client:
        name = await register(client) if exists else "nobody"
        outcomes = await asyncio.gather(*(attempt(client, name, f"wrong {number}") for number in range(50)))
        right = await attempt(client, name.upper(), PASSWORD)
    refused = [outcome for outcome in (*outcomes, right) if outcome.status == 429]

    assert [401] * 10 + [429] * 40 == sorted(outcome.status for outcome in outcomes)
    assert right.status == 429
    assert {"limit_reached"} == {outcome.body["code"] for outcome in refused}
    assert all(WINDOW - 60 < int(outcome.retry_after or 0) <= WINDOW for outcome in refused)
    logs = [path.read_text().splitlines() for path in limited.log_dir.glob("worker-*.jsonl")]
    assert 4 == sum(any(json.loads(line).get("route") == "/login" for line in log) for log in logs)


async def test_parallel_right_passwords_lock_nothing(limited: RunningStack) -> None:
    """Each of 30 parallel logins with the right password succeeds, and as many wrong ones are left as before."""
    async with from_address(limited, "127.0.1.3") as client:
        name = await register(client)
        outcomes = await asyncio.gather(*(attempt(client, name, PASSWORD) for _ in range(30)))
        wrong = [(await attempt(client, name, f"wrong {number}")).status for number in range(TRIES_PER_ACCOUNT + 1)]

    assert {200: 30} == Counter(outcome.status for outcome in outcomes)
    assert [401] * TRIES_PER_ACCOUNT + [429] == wrong


async def test_wrong_passwords_from_elsewhere_lock_no_owner_out(limited: RunningStack) -> None:
    """The owner can still sign in and change the password."""
    async with from_address(limited, "127.0.1.4") as owner, from_address(limited, "127.0.1.5") as stranger:
        name = await register(owner)
        token = (await log_in(owner, name))["access_token"]
        guesses = await asyncio.gather(*(attempt(stranger, name, f"wrong {number}") for number in range(30)))
        again = await attempt(owner, name, PASSWORD)
        change = {"current": PASSWORD, "new": f"{PASSWORD} 2"}
        changed = await ask(owner, "PUT", "/me/password", change, token=token)

    assert {401: 10, 429: 20} == Counter(outcome.status for outcome in guesses)
    assert (200, 204) == (again.status, changed.status)


async def test_a_user_has_no_more_tokens_than_allowed_whatever_comes_at_once(limited: RunningStack) -> None:
    """Of 120 parallel requests over 4 workers, exactly 50 create a token."""
    body = {"name": "a", "scopes": ["echo"]}
    async with from_address(limited, "127.0.1.6") as one, from_address(limited, "127.0.1.7") as other:
        token = (await log_in(one, await register(one)))["access_token"]
        outcomes = await asyncio.gather(
            *(ask((one, other)[number % 2], "POST", "/tokens", body, token=token) for number in range(120))
        )

    assert {201: 50, 409: 70} == Counter(outcome.status for outcome in outcomes)


async def test_the_address_that_counts_is_the_one_that_nginx_sees(limited: RunningStack) -> None:
    """A client's forged headers neither evade its limit nor use up another's."""
    claims = ("X-Real-IP", "X-Forwarded-For", "Forwarded", "X-Client-IP")

    def claiming(address: str) -> dict[str, str]:
        return dict.fromkeys(claims, address)

    async with from_address(limited, "127.0.2.1") as blocked, from_address(limited, "127.0.2.2") as other:
        statuses = [
            (await attempt(blocked, f"nobody-{number}", "wrong", **claiming(f"192.0.2.{number}"))).status
            for number in range(TRIES_PER_ADDRESS + 1)
        ]
        escaping = await attempt(blocked, "nobody-x", "wrong", **claiming("127.0.2.2"))
        innocent = await attempt(other, "nobody-x", "wrong", **claiming("127.0.2.1"))

    assert [401] * TRIES_PER_ADDRESS + [429] == statuses
    assert (429, 401) == (escaping.status, innocent.status)


async def test_an_address_above_its_limit_locks_no_account(limited: RunningStack) -> None:
    """Attempts rejected for their address do not count for the account."""
    async with from_address(limited, "127.0.3.1") as blocked, from_address(limited, "127.0.3.2") as owner:
        name = await register(owner)
        for number in range(TRIES_PER_ADDRESS):
            await attempt(blocked, f"none-{number}", "wrong")
        statuses = {(await attempt(blocked, name, "wrong")).status for _ in range(TRIES_PER_ACCOUNT + 1)}

        assert statuses == {429}
        await log_in(owner, name)


async def test_a_deletion_in_which_a_worker_is_killed_is_finished(
    stack: RunningStack, client: ClientSession, workers: list[ClientSession], mongod: Mongod
) -> None:
    """The account is gone after the first step, and another process finishes the killed worker's job."""
    user = await sign_up(client)
    user_id = bytes.fromhex((await do(client, "GET", "/me", token=user.token))["user_id"])
    async with AsyncMongoClient[dict[str, Any]](mongod.url) as mongo, mongo.start_session() as session:
        database = mongo["sealpost"]
        # Whoever else would write to this document waits for the end of the transaction: the deletion, at that step.
        await session.start_transaction()
        await database.api_tokens.update_one({"user_id": user_id}, {"$set": {"held": True}}, session=session)
        worker = (await asyncio.to_thread(stack.worker_pids))[0]
        deleting = asyncio.create_task(ask(workers[0], "DELETE", "/me", {"password": PASSWORD}, token=user.token))
        async with asyncio.timeout(PATIENCE):
            while await database.sessions.find_one({"user_id": user_id, "ended_at": None}):
                await asyncio.sleep(0.01)
        marked = await database.users.find_one({"_id": user_id})
        login = await attempt(client, user.name, PASSWORD)
        again = await ask(client, "POST", "/register", {"username": user.name, "password": PASSWORD})
        os.kill(worker, signal.SIGKILL)
        outcome = await deleting
        await session.abort_transaction()

        assert marked is not None
        assert marked["deleting_at"] is not None
        assert (401, 409) == (login.status, again.status)
        assert outcome.status == 0
        async with asyncio.timeout(PATIENCE):
            while await database.users.find_one({"_id": user_id}):
                await asyncio.sleep(0.05)
        assert None is await database.api_tokens.find_one({"user_id": user_id})
    await all_running(stack)
    for one in (*workers, client):
        assert 401 == (await attempt(one, user.name, PASSWORD)).status
        for token in (user.token, user.other_token, user.api_token["token"]):
            assert 401 == await status_of(one, token)
    await do(client, "POST", "/register", {"username": user.name, "password": PASSWORD})


@pytest.mark.parametrize("way", ["frozen", "stopped"])
async def test_without_mongodb_no_request_is_authenticated(limited: RunningStack, mongod: Mongod, way: str) -> None:
    """Each request is answered while MongoDB is away, with a 503 and Retry-After; then the same workers continue."""
    address = {"frozen": "127.0.4.1", "stopped": "127.0.4.2"}[way]
    before = await all_running(limited)
    async with AsyncExitStack() as clients:
        client = await clients.enter_async_context(from_address(limited, address))
        workers = [await clients.enter_async_context(at_worker(limited, number)) for number in range(1, 5)]
        user = await sign_up(client)
        gone = await sign_up(client)
        await do(workers[0], "POST", "/logout", token=gone.token)
        if way == "frozen":
            mongod.signal(signal.SIGSTOP)
        else:
            await asyncio.to_thread(mongod.stop)
        try:
            # A worker's data on ended sessions is valid for a moment longer.
            await asyncio.sleep(KNOWN_WITHIN)
            requests: list[tuple[str, str, object, str]] = [
                ("POST", "/register", {"username": "new-" + way, "password": PASSWORD}, ""),
                ("POST", "/login", {"username": user.name, "password": PASSWORD}, ""),
                ("POST", "/login", {"username": user.name, "password": "wrong"}, ""),
                ("POST", "/login", {"username": "nobody", "password": PASSWORD}, ""),
                ("POST", "/refresh", {"refresh_token": user.own["refresh_token"]}, ""),
                ("GET", "/me", None, user.token),
                ("GET", "/me", None, gone.token),
                ("GET", "/me", None, user.api_token["token"]),
                ("GET", "/sessions", None, user.token),
                # An invalid id: a 404 would not need MongoDB, but authentication does.
                ("DELETE", f"/sessions/{'0' * 32}", None, user.token),
                ("PUT", "/me/password", {"current": PASSWORD, "new": PASSWORD}, user.token),
                ("DELETE", "/me", {"password": PASSWORD}, user.token),
                ("POST", "/tokens", {"name": "a", "scopes": ["echo"]}, user.token),
            ]
            outcomes = await asyncio.gather(
                *(
                    ask(one, method, path, body, token=token)
                    for one in (*workers, client)
                    for method, path, body, token in requests
                )
            )
        finally:
            if way == "frozen":
                mongod.signal(signal.SIGCONT)
            else:
                await asyncio.to_thread(mongod.start)
        async with asyncio.timeout(PATIENCE):
            while {200} != {await status_of(one, user.token) for one in workers}:
                await asyncio.sleep(0.1)
        statuses = Counter(outcome.status for outcome in outcomes)

        # The end of this session was acknowledged, and a worker remembers its own.
        assert {401, 503} >= set(statuses), statuses
        assert statuses[401] <= len(workers) + 1, statuses
        assert all(outcome.retry_after for outcome in outcomes if outcome.status == 503)
        assert max(outcome.seconds for outcome in outcomes) < REQUEST_TIMEOUT / 2
        assert {401} == {await status_of(one, gone.token) for one in workers}
        # Attempts that MongoDB recorded when it recovered may count for the other account.
        for one in (*workers, client):
            await log_in(one, gone.name)
        assert before == await all_running(limited)


@pytest.fixture
async def visitor(limited: RunningStack) -> AsyncIterator[ClientSession]:
    """A client with its own budget of attempts."""
    async with from_address(limited, "127.0.5.1") as client:
        yield client


async def test_no_log_and_no_document_contains_names(
    limited: RunningStack, visitor: ClientSession, mongod: Mongod
) -> None:
    """After valid, invalid and aborted requests: no name, password or token in any log or document."""
    name, new_password = f"Leak.{secrets.token_hex(8)}.Name", PASSWORD + "-new"
    seen = Counter[int]()

    async def send(method: str, path: str, body: object = None, token: str = "", **headers: str) -> Any:
        outcome = await ask(visitor, method, path, body, token=token, **headers)
        seen[outcome.status] += 1
        return outcome.body

    credentials = {"username": name, "password": PASSWORD}
    for body in (credentials, credentials, {**credentials, name: name}, {**credentials, "username": name + "é"}):
        await send("POST", "/register", body)
    await send("POST", "/register", {"username": [name], "password": {PASSWORD: PASSWORD}})
    first, second, third = [await send("POST", "/login", credentials) for _ in range(3)]
    tokens: list[str] = [pair[field] for pair in (first, second, third) for field in ("access_token", "refresh_token")]
    api_token = (await send("POST", "/tokens", {"name": name, "scopes": ["echo"]}, first["access_token"]))["token"]
    tokens.append(api_token)
    for token in tokens:
        for path in ("/me", f"/me?token={token}", f"/sessions/{token}", f"/{token}", f"/{token}/{name}"):
            await send("GET", path, token=token)
        await send("PUT", f"/sessions?token={token}")
        for path in (f"/tokens/{token}", f"/sessions/{name}"):
            await send("DELETE", path, token=token)
        await send("POST", "/refresh", {"refresh_token": token[:-1]})
        await send("GET", "/me", token=token + name)
        await send("GET", "/me", Authorization=f"Basic {token}", Cookie=f"token={token}", Referer=f"http://a/{token}")
        for line in (b"Authorization: Bearer %s\x01", b"%s", b"Authorization: Bearer %s\xff", b"Cookie: %s=\xff; ="):
            head = b"GET /me HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + line % token.encode()
            answer = await raw(limited, head + b"\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 4")
            assert token.encode() not in answer
    async with visitor.post("/login", data=BytesIO(PASSWORD.encode() * 60_000)) as response:
        seen[response.status] += 1
    await send("POST", "/login", {**credentials, "password": new_password})
    following = await send("POST", "/refresh", {"refresh_token": second["refresh_token"]})
    await send("POST", "/refresh", {"refresh_token": second["refresh_token"]})
    change = {"current": PASSWORD, "new": new_password}
    for _ in range(2):
        await send("PUT", "/me/password", change, first["access_token"])
    mongod.signal(signal.SIGSTOP)
    storm = [send("POST", "/login", {"username": name + "2", "password": new_password}) for _ in range(10)]
    storm += [send("GET", "/me", token=token) for token in tokens[:7]]
    storm += [send("POST", "/refresh", {"refresh_token": first["refresh_token"]})]
    waiting = asyncio.gather(*storm)
    await asyncio.sleep(0.5)
    os.kill((await asyncio.to_thread(limited.worker_pids))[0], signal.SIGKILL)
    await waiting
    mongod.signal(signal.SIGCONT)
    await all_running(limited)
    stored = mongod.dump()
    last = await log_in(visitor, name, new_password)
    await send("DELETE", "/me", {"password": PASSWORD}, last["access_token"])
    await send("DELETE", "/me", {"password": new_password}, last["access_token"])
    tokens += [pair[field] for pair in (following, last) for field in ("access_token", "refresh_token")]
    # Without its signature, an access token is useless.
    needles = [name, name.lower(), PASSWORD, *tokens, *(token.rpartition(".")[2] for token in tokens)]

    assert {200, 201, 204, 400, 401, 403, 404, 405, 409, 413, 502, 503} <= set(seen), seen
    assert 500 not in seen
    assert await grep_logs(limited, *needles) == []
    assert [needle for needle in needles if needle in stored] == []
