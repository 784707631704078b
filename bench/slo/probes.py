"""Probes beside the traffic: what has to be refused, and how soon what has ended is."""

import asyncio
import io
import itertools
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from .client import Answer, Client
from .malformed import Malformed, malformed_requests
from .texts import MEBIBYTE
from .users import User

OK, NO_CONTENT, TOO_LARGE, UNAUTHORIZED = 200, 204, 413, 401
OVERSIZED_ROUTES = ("/generate", "/", "/login", "/register", "/echo", "/posts", "/tokens")
OVERSIZES = (MEBIBYTE + 1, 2 * MEBIBYTE)
CHUNK = 65_536
WATCHED = 3.0
"""Seconds for which a token is tried after its end; and once more when the run is over."""
TRIES_BEFORE = 12
"""Enough that every worker has seen the token as good."""
TRIES_AFTER = 8


@dataclass
class Revocation:
    """A token that was ended: when that was answered, and what became of it on each try since, in order of sending."""

    token: str = field(repr=False)
    way: str
    ended_at: float
    tries: list[tuple[float, bool]] = field(default_factory=list)

    def note(self, answer: Answer) -> None:
        """Note a try; a broken connection is none."""
        if not answer.is_fault:
            self.tries.append((answer.sent_at, answer.status != UNAUTHORIZED))

    @property
    def seconds(self) -> float:
        """Return when the first of an unbroken row of refusals was sent; infinite where the last try was accepted."""
        tries = sorted(self.tries)
        refused_from = math.inf
        for sent_at, accepted in reversed(tries):
            if accepted:
                break
            refused_from = sent_at
        return max(0.0, refused_from - self.ended_at)


class Probes:
    """The probes; each call plays one once."""

    def __init__(self, client: Client, users: list[User]) -> None:
        self.revocations: list[Revocation] = []
        self.malformed_kinds = malformed_requests()
        self._client = client
        self._tally = client.tally
        self._next_user = itertools.cycle(users)
        self._next_malformed = itertools.cycle(self.malformed_kinds)
        self._next_oversized = itertools.cycle(itertools.product(OVERSIZES, OVERSIZED_ROUTES, (False, True)))

    async def malformed(self) -> None:
        """Send the next malformed request."""
        request: Malformed = next(self._next_malformed)
        answer = await request.send(self._client, next(self._next_user).access_token)
        self._tally.malformed += 1
        self._tally.malformed_kinds.add(request.kind)
        if not answer.is_refusal:
            self._tally.not_refused[f"{request.kind}: {answer.status or 'connection broken'}"] += 1

    async def oversized(self) -> None:
        """Send a body over the limit, with its length or in chunks."""
        size, route, chunked = next(self._next_oversized)
        data = _chunks(size) if chunked else io.BytesIO(bytes(size))
        answer = await self._client.send("POST", route, data, token=next(self._next_user).access_token)
        self._tally.oversized += 1
        if answer.status != TOO_LARGE or not answer.is_refusal:
            self._tally.oversized_passed[f"{route}, {size} bytes: {answer.status or 'connection broken'}"] += 1

    async def delete_api_token(self, polls_per_second: float) -> None:
        """Make an API token, use it, delete it, and see when it is refused."""
        user = next(self._next_user)
        body = {"name": "to be deleted", "scopes": ["echo"]}
        made = await self._client.ask("POST", "/tokens", body, token=user.access_token)
        if not made.is_fault and self._tally.check("make a token", is_right=made.status == 201):  # noqa: PLR2004
            end = ("/tokens/{key}", made.body["id"])
            await self._watch_end("API token deleted", made.body["token"], user, end, polls_per_second)

    async def end_session(self, polls_per_second: float) -> None:
        """Begin a session, use it, end it from another one, and see when its access token is refused."""
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
        """Try each ended token once more: what was refused must stay so."""
        for revocation in self.revocations:
            for answer in await asyncio.gather(*(self._use(revocation.token) for _ in range(TRIES_AFTER))):
                revocation.note(answer)

    async def _watch_end(self, way: str, token: str, user: User, end: tuple[str, str], polls_per_second: float) -> None:
        interval = 1 / polls_per_second
        for _ in range(TRIES_BEFORE):
            answer = await self._use(token)
            if not answer.is_fault and not self._tally.check("a good token", is_right=answer.status == OK):
                return
            await asyncio.sleep(interval)
        route, key = end
        ended = await self._client.ask("DELETE", route, key=key, token=user.access_token)
        if ended.is_fault or not self._tally.check(way, is_right=ended.status == NO_CONTENT):
            return
        revocation = Revocation(token, way, time.monotonic())
        self.revocations.append(revocation)
        async with asyncio.TaskGroup() as tasks:
            while time.monotonic() < revocation.ended_at + WATCHED:
                tasks.create_task(self._try(revocation))
                await asyncio.sleep(interval)

    async def _try(self, revocation: Revocation) -> None:
        revocation.note(await self._use(revocation.token))

    async def _use(self, token: str) -> Answer:
        return await self._client.ask("POST", "/echo", {"str": "still good?"}, token=token, fresh=True)


async def _chunks(size: int) -> AsyncIterator[bytes]:
    for start in range(0, size, CHUNK):
        yield bytes(min(CHUNK, size - start))
