"""Requests of clients, and their outcomes."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession

HEADERS = {
    "Cache-Control": "no-store, no-transform",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@dataclass(frozen=True)
class Outcome:
    """The outcome of a request; status 0 if the connection broke."""

    status: int
    body: dict[str, Any]
    retry_after: str | None
    seconds: float


async def post(client: ClientSession, path: str, body: dict[str, Any] | None = None) -> Outcome:
    begun = time.monotonic()
    try:
        async with client.post(path, json=body) as response:
            answer = await response.json(content_type=None)
            return Outcome(response.status, answer, response.headers.get("Retry-After"), time.monotonic() - begun)
    except ClientError:
        return Outcome(0, {}, None, time.monotonic() - begun)


async def create(client: ClientSession, secret: str, **fields: Any) -> str:
    """Store a secret and return its key."""
    outcome = await post(client, "/generate", {"secret": secret, **fields})
    assert outcome.status == 201, outcome
    return str(outcome.body["secret_key"])


async def open_secret(client: ClientSession, key: str) -> Outcome:
    return await post(client, f"/secrets/{key}")


async def gather_limited(count: int, at_once: int, one: Any) -> None:
    """Run ``one(index)`` for each index below ``count``, ``at_once`` of them at a time."""
    indexes = iter(range(count))

    async def work() -> None:
        for index in indexes:
            await one(index)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(at_once):
            tasks.create_task(work())


async def assert_problem(response: ClientResponse, status: int, code: str) -> None:
    """Check an error of nginx against the API's format and headers."""
    problem = await response.json(content_type="application/problem+json")
    request_id = response.headers["X-Request-ID"]

    assert status == response.status
    members = set(problem) - {
        "status_message",
        "status_code",
        "status_description",
        "token",
    }  # for the gatherer's senders
    assert {"type", "title", "status", "detail", "code", "request_id", "Error"} == members
    assert ("about:blank", status, code) == (problem["type"], problem["status"], problem["code"])
    assert problem["detail"] == problem["Error"] != ""
    assert request_id == problem["request_id"] != ""
    assert HEADERS.items() <= dict(response.headers).items()
