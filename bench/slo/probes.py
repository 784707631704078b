"""Probes in parallel with the traffic: requests that must be rejected, and the delay of revocation."""

import asyncio
import io
import itertools
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from .client import ApiClient, TimedResponse
from .malformed import MalformedRequest, malformed_requests
from .texts import MEBIBYTE
from .users import VirtualUser

OK, NO_CONTENT, TOO_LARGE, UNAUTHORIZED = 200, 204, 413, 401
OVERSIZED_ROUTES = ("/generate", "/", "/login", "/register", "/echo", "/posts", "/tokens")
OVERSIZES = (MEBIBYTE + 1, 2 * MEBIBYTE)
CHUNK = 65_536
WATCHED = 3.0
"""Seconds for which a token is tried after its revocation; it is tried again at the end of the run."""
TRIES_BEFORE = 12
"""Enough for every worker to accept the token."""
TRIES_AFTER = 8


@dataclass
class Revocation:
    """A revoked token: the monotonic time of the acknowledgement, and the time and acceptance of each attempt since."""

    token: str = field(repr=False)
    method: str
    ended_at: float
    attempts: list[tuple[float, bool]] = field(default_factory=list)

    def note(self, answer: TimedResponse) -> None:
        """Record an attempt, unless the service was unavailable."""
        if not answer.is_fault:
            self.attempts.append((answer.sent_at, answer.status != UNAUTHORIZED))

    @property
    def seconds(self) -> float:
        """The delay until the token was rejected for good; infinite if the last attempt was accepted."""
        attempts = sorted(self.attempts)
        refused_from = math.inf
        for sent_at, accepted in reversed(attempts):
            if accepted:
                break
            refused_from = sent_at
        return max(0.0, refused_from - self.ended_at)


class Probes:
    """The probes; each call runs one once."""

    def __init__(self, client: ApiClient, users: list[VirtualUser]) -> None:
        self.revocations: list[Revocation] = []
        self.malformed_kinds = malformed_requests()
        self._client = client
        self._tally = client.tally
        self._next_user = itertools.cycle(users)
        self._next_malformed = itertools.cycle(self.malformed_kinds)
        self._next_oversized = itertools.cycle(itertools.product(OVERSIZES, OVERSIZED_ROUTES, (False, True)))

    async def malformed(self) -> None:
        """Send the next malformed request."""
        request: MalformedRequest = next(self._next_malformed)
        answer = await request.send(self._client, next(self._next_user).access_token)
        self._tally.malformed += 1
        self._tally.malformed_kinds.add(request.kind)
        if not answer.is_refusal:
            self._tally.not_refused[f"{request.kind}: {answer.status or 'connection broken'}"] += 1

    async def oversized(self) -> None:
        """Send a body over the limit, with Content-Length or chunked."""
        size, route, chunked = next(self._next_oversized)
        data = _chunks(size) if chunked else io.BytesIO(bytes(size))
        answer = await self._client.send("POST", route, data, token=next(self._next_user).access_token)
        self._tally.oversized += 1
        if answer.status != TOO_LARGE or not answer.is_refusal:
            self._tally.oversized_passed[f"{route}, {size} bytes: {answer.status or 'connection broken'}"] += 1

    async def delete_api_token(self, polls_per_second: float) -> None:
        """Create an API token, use it, delete it, and record when it is rejected."""
        user = next(self._next_user)
        body = {"name": "to be deleted", "scopes": ["echo"]}
        made = await self._client.ask("POST", "/tokens", body, token=user.access_token)
        if not made.is_fault and self._tally.check("create a token", is_right=made.status == 201):  # noqa: PLR2004
            end = ("/tokens/{key}", made.body["id"])
            await self._watch_end("API token deleted", made.body["token"], user, end, polls_per_second)

    async def end_session(self, polls_per_second: float) -> None:
        """Start a session, use it, end it from another one, and record when its access token is rejected."""
        user = next(self._next_user)
        pair = await self._client.ask("POST", "/login", user.credentials())
        if pair.is_fault or not self._tally.check("sign in", is_right=pair.status == OK):
            return
        token = pair.body["access_token"]
        listed = await self._client.ask("GET", "/sessions", token=token)
        if listed.is_fault or not self._tally.check("list sessions", is_right=listed.status == OK):
            return
        (session_id,) = [session["id"] for session in listed.body["sessions"] if session["current"]]
        await self._watch_end("session ended", token, user, ("/sessions/{key}", session_id), polls_per_second)

    async def try_again(self) -> None:
        """Try each revoked token again: a rejected token must stay rejected."""
        for revocation in self.revocations:
            for answer in await asyncio.gather(*(self._use(revocation.token) for _ in range(TRIES_AFTER))):
                revocation.note(answer)

    async def _watch_end(
        self, method: str, token: str, user: VirtualUser, end: tuple[str, str], polls_per_second: float
    ) -> None:
        interval = 1 / polls_per_second
        for _ in range(TRIES_BEFORE):
            answer = await self._use(token)
            if not answer.is_fault and not self._tally.check("valid token", is_right=answer.status == OK):
                return
            await asyncio.sleep(interval)
        route, key = end
        ended = await self._client.ask("DELETE", route, key=key, token=user.access_token)
        if ended.is_fault or not self._tally.check(method, is_right=ended.status == NO_CONTENT):
            return
        revocation = Revocation(token, method, time.monotonic())
        self.revocations.append(revocation)
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < revocation.ended_at + WATCHED:
                tasks.create_task(self._try(revocation))
                await asyncio.sleep(interval)

    async def _try(self, revocation: Revocation) -> None:
        revocation.note(await self._use(revocation.token))

    async def _use(self, token: str) -> TimedResponse:
        return await self._client.ask("POST", "/echo", {"str": "still valid?"}, token=token, fresh=True)


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, CHUNK):
        yield bytes(min(CHUNK, size - start))
