"""Concurrent logins, which the bench compares with bcrypt alone.

wrk cannot honor Retry-After, so this is a separate client. At a few logins a second its own load is negligible.
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
class LoginAttempt:
    """One login attempt: the time of its response and its duration, in seconds; status 0 for a broken connection."""

    status: int
    at: float
    seconds: float
    retry_after: int | None


@dataclass(frozen=True)
class Logins:
    """The login attempts of all clients; ``steady`` are those that ended in the ``seconds`` after the warm-up."""

    seconds: float
    steady: list[LoginAttempt]
    attempts: list[LoginAttempt]

    @property
    def per_second(self) -> float:
        """Successful logins per second."""
        return sum(attempt.status == OK for attempt in self.steady) / self.seconds

    def milliseconds(self, *statuses: int) -> list[float]:
        """Return the durations of the attempts with these statuses."""
        return [attempt.seconds * 1000 for attempt in self.attempts if attempt.status in statuses]

    def other_than(self, statuses: Iterable[int]) -> int:
        """Count the attempts with another status, and the 503s without Retry-After."""
        return sum(
            attempt.status not in statuses or (attempt.status == SERVICE_UNAVAILABLE and not attempt.retry_after)
            for attempt in self.attempts
        )


async def make_user(url: str) -> None:
    """Create the account that all clients log in to."""
    async with ClientSession(url) as client, client.post("/register", json=CREDENTIALS) as response:
        response.raise_for_status()


async def log_in(url: str, clients: int, seconds: float, warm_up: float) -> Logins:
    """Let clients log in repeatedly during the warm-up and ``seconds`` more; after a 503 each waits for Retry-After."""
    begun = time.perf_counter()
    steady_from, until = begun + warm_up, begun + warm_up + seconds
    attempts: list[LoginAttempt] = []

    async def work(client: ClientSession) -> None:
        while time.perf_counter() < until:
            attempt = await _log_in_once(client)
            attempts.append(attempt)
            if attempt.retry_after:
                await asyncio.sleep(min(attempt.retry_after, max(0.0, until - time.perf_counter())))

    async with (
        ClientSession(url, connector=TCPConnector(limit=0), timeout=ClientTimeout(TIMEOUT)) as client,
        asyncio.TaskGroup() as tasks,
    ):
        for _ in range(clients):
            tasks.create_task(work(client))
    return Logins(seconds, [attempt for attempt in attempts if steady_from < attempt.at <= until], attempts)


async def _log_in_once(client: ClientSession) -> LoginAttempt:
    asked = time.perf_counter()
    try:
        async with client.post("/login", json=CREDENTIALS) as response:
            await response.read()
            status, retry_after = response.status, response.headers.get("Retry-After")
    except (ClientError, TimeoutError):
        status, retry_after = 0, None
    now = time.perf_counter()
    return LoginAttempt(status, now, now - asked, int(retry_after) if retry_after else None)
