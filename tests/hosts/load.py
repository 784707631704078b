"""Clients of both hosts, which record their operations."""

import asyncio
import json
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp

from ..processes import PATIENCE
from .checker import NOT_FOUND
from .cluster import Cluster
from .history import Kind, Operation, Outcome, outcome_of

PASSWORD = "correct horse battery staple"
PHRASE = "old friend"
OPERATOR = {"username": "operator", "password": PASSWORD}
_ITEM_CLIENTS, _SESSION_CLIENTS, _USERS, _POSTS, _SENDERS = 12, 3, 4, 3, 3
_WITNESSES = 3
"""Per host."""
_PROBE_SECONDS = 0.1
_MOST_PROBES = 64
"""Maximum number of concurrent creations per host."""
_DRAINING = 16
_TIMEOUT = aiohttp.ClientTimeout(total=20)
_GIVING_BACK_SECONDS = 20.0
"""Seconds within which an opening that failed with 503 is given back once MongoDB is available again."""
_WRONG_PHRASE = 403

Value = Callable[[Any], dict[str, Any]]


@dataclass
class CreatedItem:
    """A secret that was created."""

    name: str
    max_opens: int
    phrase: str | None
    secret_key: str
    receipt_key: str
    opened: int = 0
    """Number of acknowledged openings."""
    unanswered: list[str] = field(default_factory=list)
    """Keys of readers who do not know whether they have opened it."""
    is_ended: bool = False
    """Whether it may have been burned or locked."""


@dataclass
class ClientAccount:
    """The account of a client that sends batches or reacts to posts."""

    name: str
    token: str
    reactions: dict[str, str | None] = field(default_factory=dict)


class LoadGenerator:
    """Clients that send requests until they are stopped, then read the final state."""

    def __init__(self, sessions: dict[str, aiohttp.ClientSession], name: str) -> None:
        self.history: list[Operation] = []
        self._sessions = sessions
        self._name = name
        self._stopping = asyncio.Event()
        self._kept: list[CreatedItem] = []
        self._posts: list[str] = []
        self._users: list[ClientAccount] = []
        self._senders: list[ClientAccount] = []
        self._number = 0

    async def set_up(self) -> None:
        """Create the accounts and posts. These requests are not recorded, because no fault has begun."""
        for number in range(_USERS):
            self._users.append(ClientAccount(f"{self._name}-u{number}", await self._sign_up(f"{self._name}-u{number}")))
        for number in range(_SENDERS):
            self._senders.append(
                ClientAccount(f"{self._name}-s{number}", await self._sign_up(f"{self._name}-s{number}"))
            )
        await self._sign_up(f"{self._name}-sessions")
        for number in range(_POSTS):
            post = await self.ask("POST", "/posts", {"content": f"post {number}"}, token=self._users[0].token)
            self._posts.append(post["id"])

    async def run(self) -> None:
        """Send requests until `stop` is called."""
        async with asyncio.TaskGroup() as group:
            for host in self._sessions:
                group.create_task(self._probe(host))
                for _ in range(_WITNESSES):
                    group.create_task(self._repeat(partial(self._witness, host)))
            for _ in range(_ITEM_CLIENTS):
                group.create_task(self._repeat(self._use_item))
            for _ in range(_SESSION_CLIENTS):
                group.create_task(self._repeat(self._use_session))
            for user in self._users:
                group.create_task(self._repeat(partial(self._react, user)))
            for sender in self._senders:
                group.create_task(self._repeat(partial(self._send, sender)))

    def stop(self) -> None:
        """Stop each client after its current operation."""
        self._stopping.set()

    async def created_everywhere(self, since: float) -> None:
        """Wait until each host has acknowledged a creation that began after a moment."""
        async with asyncio.timeout(PATIENCE):
            while not all(self._has_created(host, since) for host in self._sessions):
                await asyncio.sleep(0.1)

    async def read_final_state(self) -> None:
        """Use up the remaining openings, and read reactions and messages."""
        operator_token = (await self.ask("POST", "/login", OPERATOR))["access_token"]
        room = asyncio.Semaphore(_DRAINING)
        deadline = time.monotonic() + _GIVING_BACK_SECONDS

        async def drain(item: CreatedItem) -> None:
            async with room:
                await self._drain(item, deadline)

        async with asyncio.TaskGroup() as group:
            for item in self._kept:
                group.create_task(drain(item))
        for user in self._users:
            for post in self._posts:
                await self._read_post(user, post)
        for sender in self._senders:
            await self._read_gathered(sender, operator_token)

    async def ask(self, method: str, path: str, body: object = None, *, token: str = "") -> Any:
        """Send a request, with retries, to either host, and return the body of the response."""
        async with asyncio.timeout(PATIENCE):
            while True:
                status, answer = await self._request(self._any_host(), method, path, body, token)
                if outcome_of(status) is Outcome.OK:
                    return answer

                assert outcome_of(status) is Outcome.UNKNOWN, answer
                await asyncio.sleep(0.1)

    async def _sign_up(self, username: str) -> str:
        """Create an account and return an API token for it."""
        await self.ask("POST", "/register", {"username": username, "password": PASSWORD})
        tokens = await self.ask("POST", "/login", {"username": username, "password": PASSWORD})
        wanted = {"name": "load", "scopes": ["gather", "posts"]}
        return str((await self.ask("POST", "/tokens", wanted, token=tokens["access_token"]))["token"])

    async def _repeat(self, action: Callable[[], Awaitable[None]]) -> None:
        while not self._stopping.is_set():
            await action()
            await asyncio.sleep(random.uniform(0.01, 0.05))

    async def _probe(self, host: str) -> None:
        """Create items at a steady rate, however slow the responses, to measure when creation is possible."""
        room = asyncio.Semaphore(_MOST_PROBES)

        async def create() -> None:
            try:
                await self._create(host, max_opens=random.choice((1, 1, 3)), keep=True)
            finally:
                room.release()

        async with asyncio.TaskGroup() as group:
            while not self._stopping.is_set():
                await room.acquire()
                group.create_task(create())
                await asyncio.sleep(_PROBE_SECONDS)

    async def _use_item(self) -> None:
        """Create an item, and let readers, an observer, and sometimes its sender access it concurrently."""
        is_guessed = random.random() < 0.1
        item = await self._create(
            self._any_host(),
            max_opens=random.choice((1, 3)),
            phrase=PHRASE if is_guessed else random.choice((None, PHRASE)),
            max_attempts=2 if is_guessed else 10,
            keep=not is_guessed and random.random() < 0.2,
        )
        if item is None or item in self._kept:
            return
        watching = asyncio.create_task(self._watch(item))
        async with asyncio.TaskGroup() as readers:
            for _ in range(item.max_opens + 1):
                read = self._read if random.random() < 0.6 else self._open_once
                readers.create_task(self._later(partial(read, item)))
            if is_guessed:
                readers.create_task(self._later(lambda: self._guess(item)))
            elif random.random() < 0.3:
                readers.create_task(self._later(lambda: self._burn(item, self._any_host())))
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await self._look_at(item, self._any_host())
        self._kept.append(item)

    async def _witness(self, host: str) -> None:
        """Burn or open an older item and observe it on the same host, which may reach only an old primary."""
        if not self._kept:
            return
        item = self._kept[random.randrange(len(self._kept))]
        changes = (self._burn(item, host), self._open(item, host), self._read(item))
        change = random.choices(changes, (2, 1, 1))[0]
        for other in changes:
            if other is not change:
                other.close()
        changing = asyncio.create_task(change)
        while not changing.done():
            await self._look_at(item, host)
            await asyncio.sleep(0.05)
        await changing
        await asyncio.sleep(0.3)

    @staticmethod
    async def _later(action: Callable[[], Awaitable[Any]]) -> None:
        await asyncio.sleep(random.uniform(0, 1.5))
        await action()

    async def _watch(self, item: CreatedItem) -> None:
        while True:
            await self._look_at(item, self._any_host())
            await asyncio.sleep(random.uniform(0.05, 0.3))

    async def _create(
        self, host: str, *, max_opens: int, phrase: str | None = None, max_attempts: int = 10, keep: bool = False
    ) -> CreatedItem | None:
        self._number += 1
        name = f"{self._name}-{self._number}"
        body = {
            "secret": _text(name),
            "max_opens": max_opens,
            **({"phrase": phrase, "max_attempts": max_attempts} if phrase else {}),
        }
        status, answer = await self._do(
            Kind.CREATE, name, host, "POST", "/generate", body, value=lambda _: {"max_opens": max_opens}
        )
        if outcome_of(status) is not Outcome.OK:
            return None
        item = CreatedItem(name, max_opens, phrase, answer["secret_key"], answer["receipt_key"])
        if keep:
            self._kept.append(item)
        return item

    async def _open_once(self, item: CreatedItem) -> None:
        await self._open(item, self._any_host())

    async def _open(self, item: CreatedItem, host: str, *, final: bool = False) -> int | None:
        status = await self._ask_for(item, host, final=final)
        item.opened += outcome_of(status) is Outcome.OK
        return status

    async def _read(self, item: CreatedItem) -> None:
        """Open an item with a reader's key, ask for the text again, and confirm it in most cases."""
        reader = secrets.token_urlsafe(32)
        item.unanswered.append(reader)
        if not await self._learn(item, reader):
            return
        for _ in range(random.randint(0, 3)):
            await self._ask_for(item, self._any_host(), reader=reader)
            await asyncio.sleep(random.uniform(0, 0.2))
        if random.random() < 0.7:
            await self._confirm(item, reader)
            await self._ask_for(item, self._any_host(), reader=reader)

    async def _learn(self, item: CreatedItem, reader: str, *, final: bool = False) -> bool:
        """Ask until the outcome of an opening is known, or the load ends; return whether the reader has the text."""
        while final or not self._stopping.is_set():
            status = await self._ask_for(item, self._any_host(), reader=reader, final=final)
            if status == NOT_FOUND or outcome_of(status) is Outcome.OK:
                item.unanswered.remove(reader)
                item.opened += status != NOT_FOUND
                return status != NOT_FOUND
            await asyncio.sleep(random.uniform(0.1, 0.5))
        return False

    async def _ask_for(
        self, item: CreatedItem, host: str, *, reader: str | None = None, final: bool = False
    ) -> int | None:
        def read(answer: Any) -> dict[str, Any]:
            held = {"held_until": answer["held_until"]} if reader else {}
            return {"opens_left": answer["opens_left"], "right": answer["secret"] == _text(item.name), **held}

        body = {**({"phrase": item.phrase} if item.phrase else {}), **({"reader": reader} if reader else {})}
        status, _ = await self._do(
            Kind.OPEN,
            item.name,
            host,
            "POST",
            f"/secrets/{item.secret_key}",
            body or None,
            value=read,
            known={"reader": reader} if reader else None,
            final=final,
        )
        return status

    async def _confirm(self, item: CreatedItem, reader: str) -> None:
        path = f"/secrets/{item.secret_key}/received"
        host, known = self._any_host(), {"reader": reader}
        await self._do(Kind.RECEIVED, item.name, host, "POST", path, {"reader": reader}, known=known)

    async def _guess(self, item: CreatedItem) -> None:
        item.is_ended = True
        for _ in range(2):
            await self._do(
                Kind.GUESS,
                item.name,
                self._any_host(),
                "POST",
                f"/secrets/{item.secret_key}",
                {"phrase": "no friend"},
                value=lambda answer: {"attempts_left": answer["attempts_left"]},
                good=_WRONG_PHRASE,
            )

    async def _burn(self, item: CreatedItem, host: str) -> None:
        item.is_ended = True
        await self._do(Kind.BURN, item.name, host, "DELETE", f"/receipts/{item.receipt_key}")

    async def _look_at(self, item: CreatedItem, host: str) -> None:
        def read(answer: Any) -> dict[str, Any]:
            return {name: answer[name] for name in ("state", "opens_left") if name in answer}

        kind, path = random.choice(
            ((Kind.RECEIPT, f"/receipts/{item.receipt_key}"), (Kind.LOOK, f"/secrets/{item.secret_key}"))
        )
        await self._do(kind, item.name, host, "GET", path, value=read)

    async def _drain(self, item: CreatedItem, deadline: float) -> None:
        """Open an item until it is used up, including openings that may still be given back."""
        for reader in list(item.unanswered):
            await self._learn(item, reader, final=True)
        while True:
            status = await self._open(item, self._any_host(), final=True)
            is_spent = item.opened >= item.max_opens or item.is_ended
            # Retry after 429: MongoDB may hold an attempt of unknown outcome for a minute.
            if status == NOT_FOUND and (is_spent or time.monotonic() > deadline):
                return
            if outcome_of(status) is not Outcome.OK:
                await asyncio.sleep(0.5)

    async def _use_session(self) -> None:
        """Log in, log out, and try the access token afterwards."""
        body = {"username": f"{self._name}-sessions", "password": PASSWORD}
        status, tokens = await self._request(self._any_host(), "POST", "/login", body, "")
        if status != 200:
            return
        self._number += 1
        session, token = f"{self._name}-session-{self._number}", tokens["access_token"]
        for host in self._sessions:
            await self._use_token(session, host, token)
        status, _ = await self._do(Kind.LOGOUT, session, self._any_host(), "POST", "/logout", token=token)
        if outcome_of(status) is not Outcome.OK:
            return
        ended = time.monotonic()
        while time.monotonic() < ended + 4 and not self._stopping.is_set():
            for host in self._sessions:
                await self._use_token(session, host, token)
            await asyncio.sleep(0.4)

    async def _use_token(self, session: str, host: str, token: str) -> None:
        await self._do(Kind.USE, session, host, "GET", "/me", token=token)

    async def _react(self, user: ClientAccount) -> None:
        post = random.choice(self._posts)
        reaction = random.choice(("like", "dislike", None))
        method, path = ("PUT", reaction) if reaction else ("DELETE", "reaction")
        known = {"user": user.name, "reaction": reaction}
        await self._do(
            Kind.REACT, post, self._any_host(), method, f"/posts/{post}/{path}", token=user.token, known=known
        )
        await asyncio.sleep(0.1)

    async def _send(self, sender: ClientAccount) -> None:
        """Send a batch until either host acknowledges it."""
        batch = secrets.token_hex(8)
        messages = [f"{batch}-{number}" for number in range(random.randint(1, 4))]
        body = {"message_type": "MESSAGE", "batch": batch, "messages": messages}
        while True:
            status, _ = await self._do(
                Kind.BATCH,
                sender.name,
                self._any_host(),
                "POST",
                "/message",
                body,
                token=sender.token,
                value=lambda answer: {"first_sequence": answer["first_sequence"]},
                known={"batch": batch, "messages": messages},
            )
            if outcome_of(status) is Outcome.OK:
                break
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)

    async def _read_post(self, user: ClientAccount, post: str) -> None:
        def read(answer: Any) -> dict[str, Any]:
            return {"user": user.name, **{name: answer[name] for name in ("likes", "dislikes", "mine")}}

        await self._read_until_ok(Kind.TALLY, post, f"/posts/{post}", token=user.token, value=read)

    async def _read_gathered(self, sender: ClientAccount, operator_token: str) -> None:
        def read(lines: Any) -> dict[str, Any]:
            return {"messages": [[line["sequence"], line["message"]] for line in lines]}

        path = f"/gathered?username={sender.name}"
        await self._read_until_ok(Kind.GATHERED, sender.name, path, token=operator_token, value=read)

    async def _read_until_ok(self, kind: Kind, subject: str, path: str, *, token: str, value: Value) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                status, _ = await self._do(
                    kind, subject, self._any_host(), "GET", path, token=token, value=value, final=True
                )
                if outcome_of(status) is Outcome.OK:
                    return
                await asyncio.sleep(0.2)

    def _any_host(self) -> str:
        return random.choice(list(self._sessions))

    def _has_created(self, host: str, since: float) -> bool:
        return any(
            one.kind is Kind.CREATE and one.is_ok and one.host == host and one.begin > since
            for one in reversed(self.history)
        )

    async def _do(
        self,
        kind: Kind,
        subject: str,
        host: str,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        value: Value | None = None,
        known: dict[str, Any] | None = None,
        good: int | None = None,
        final: bool = False,
    ) -> tuple[int | None, Any]:
        """Send a request and record it, with ``known`` for any outcome and ``value`` of the body if it is ok.

        ``good`` is a further status that counts as ok.
        """
        begin = time.monotonic()
        status, answer = await self._request(host, method, path, body, token)
        outcome = Outcome.OK if status is not None and status == good else outcome_of(status)
        details = {**(known or {}), **(value(answer) if value and outcome is Outcome.OK else {})}
        self.history.append(Operation(kind, subject, host, begin, time.monotonic(), outcome, status, details, final))
        return status, answer

    async def _request(self, host: str, method: str, path: str, body: object, token: str) -> tuple[int | None, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with self._sessions[host].request(method, path, json=body, headers=headers) as response:
                if response.content_type == "application/x-ndjson":
                    return response.status, [json.loads(line) async for line in response.content]
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, None


@asynccontextmanager
async def clients(cluster: Cluster, name: str) -> AsyncIterator[LoadGenerator]:
    """Yield a load generator for the cluster, with its accounts created."""
    async with AsyncExitStack() as stack:
        sessions = {
            host.name: await stack.enter_async_context(host.session(timeout=_TIMEOUT))
            for host in cluster.hosts.values()
        }
        load = LoadGenerator(sessions, name)
        await load.set_up()
        yield load


def _text(name: str) -> str:
    return f"the text of {name}"
