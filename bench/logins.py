"""Logins as a crowd of clients makes them, for the bench to set beside bcrypt alone.

wrk cannot wait for as long as it is told to, so this is a client of its own; for a few answers a second it takes next
to nothing.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

OK, SERVICE_UNAVAILABLE = HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE
USERNAME, PASSWORD = "bench", "correct horse battery staple"
CREDENTIALS = {"username": USERNAME, "password": PASSWORD}
TIMEOUT = 60


@dataclass(frozen=True)
class Answer:
    """One answer: when it came and how long it took, in seconds; status 0 where the connection broke."""

    status: int
    at: float
    seconds: float
    retry_after: int | None


@dataclass(frozen=True)
class Logins:
    """What a crowd was answered in ``seconds`` of a steady stream, and all that it was ever answered."""

    seconds: float
    steady: list[Answer]
    answers: list[Answer]

    @property
    def per_second(self) -> float:
        """Logins that succeeded, per second."""
        return sum(answer.status == OK for answer in self.steady) / self.seconds

    def milliseconds(self, *statuses: int) -> list[float]:
        """Return how long the answers with these statuses took."""
        return [answer.seconds * 1000 for answer in self.answers if answer.status in statuses]

    def other_than(self, statuses: Iterable[int]) -> int:
        """Count the answers with another status, and the 503s that do not say when to come again."""
        return sum(
            answer.status not in statuses or (answer.status == SERVICE_UNAVAILABLE and not answer.retry_after)
            for answer in self.answers
        )


async def make_user(url: str) -> None:
    """Make the account that everybody signs in to."""
    async with ClientSession(url) as client, client.post("/register", json=CREDENTIALS) as response:
        response.raise_for_status()


async def log_in(url: str, clients: int, seconds: float, warm_up: float) -> Logins:
    """Have clients sign in again and again for the warm-up and ``seconds`` more; after a 503 each waits as told."""
    begun = time.perf_counter()
    steady_from, until = begun + warm_up, begun + warm_up + seconds
    answers: list[Answer] = []

    async def work(client: ClientSession) -> None:
        while time.perf_counter() < until:
            answer = await _log_in_once(client)
            answers.append(answer)
            if answer.retry_after:
                await asyncio.sleep(min(answer.retry_after, max(0.0, until - time.perf_counter())))

    async with (
        ClientSession(url, connector=TCPConnector(limit=0), timeout=ClientTimeout(TIMEOUT)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(clients):
            tasks.create_task(work(client))
    return Logins(seconds, [answer for answer in answers if steady_from < answer.at <= until], answers)


async def _log_in_once(client: ClientSession) -> Answer:
    asked = time.perf_counter()
    try:
        async with client.post("/login", json=CREDENTIALS) as response:
            await response.read()
            status, retry_after = response.status, response.headers.get("Retry-After")
    except (ClientError, TimeoutError):
        status, retry_after = 0, None
    now = time.perf_counter()
    return Answer(status, now, now - asked, int(retry_after) if retry_after else None)
