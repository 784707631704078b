"""Mixed traffic: scenarios of clients that check each response.

A failed request counts against availability; the checks that depend on it are skipped.
"""

import asyncio
import itertools
import json
import math
import random
import secrets
from collections.abc import Awaitable, Callable

from .client import ApiClient, TimedResponse
from .texts import Texts
from .users import VirtualUser

OK, CREATED, NO_CONTENT, FORBIDDEN, NOT_FOUND = 200, 201, 204, 403, 404
TTL = {"minutes": 10}
"""Data left behind by an aborted run expires after this time."""
ECHOES_PER_LARGE = 200
ATTEMPTS = 5

Scenario = Callable[[], Awaitable[None]]


class Traffic:
    """The scenarios; each call runs one once."""

    def __init__(self, client: ApiClient, users: list[VirtualUser], texts: Texts) -> None:
        self._client = client
        self._tally = client.tally
        self._texts = texts
        self._users = users
        self._next_user = itertools.cycle(users)
        self._random = random.Random()  # noqa: S311 (the choices of a scenario are not secret)
        self._echoes = itertools.count(1)
        self._rounds = itertools.count()

    async def echo(self) -> None:
        """Echo a text, with either kind of token, in the header or in the body."""
        user = next(self._next_user)
        large = next(self._echoes) % ECHOES_PER_LARGE == 0
        text = self._texts.large() if large else self._texts.short()
        token = self._random.choice((user.access_token, user.api_token))
        in_body = self._random.random() < 0.5  # noqa: PLR2004 (a coin toss)
        body = {"auth": token, "str": text} if in_body else {"str": text}
        # Escaped or not; a large text would not fit if it were escaped.
        data = json.dumps(body, ensure_ascii=not large and self._random.random() < 0.5).encode()  # noqa: PLR2004
        answer = await self._client.send("POST", "/echo", data, token="" if in_body else token)
        # A failed request counts as too slow.
        self._tally.echo_seconds.append(math.inf if answer.is_fault else answer.seconds)
        if self._expect("echo", answer, OK):
            self._check("echo: another text", answer.body == {"str": text})

    async def sign_in(self) -> None:
        """Start a session, use it, and end it."""
        user = next(self._next_user)
        pair = await self._client.ask("POST", "/login", user.credentials())
        if not self._expect("sign in", pair, OK):
            return
        token = pair.body["access_token"]
        me = await self._client.ask("GET", "/me", token=token)
        if self._expect("account", me, OK):
            self._check("account: another name", me.body["username"] == user.name)
        self._expect("sign out", await self._client.ask("POST", "/logout", token=token), NO_CONTENT)

    async def use_token(self) -> None:
        """Send a request that requires a token."""
        user = next(self._next_user)
        path, name = self._random.choice((("/me", "user_id"), ("/tokens", "tokens"), ("/sessions", "sessions")))
        answer = await self._client.ask("GET", path, token=user.access_token)
        if self._expect("use of a token", answer, OK):
            self._check("use of a token: another answer", bool(answer.body.get(name)))

    async def refresh(self) -> None:
        """Refresh the tokens of a session."""
        user = next(self._next_user)
        async with user.refreshing:
            answer = await self._client.ask("POST", "/refresh", {"refresh_token": user.refresh_token})
            if answer.is_fault:
                # The token may be used up, and reusing it would end the session.
                answer = await self._client.ask("POST", "/login", user.credentials())
            if self._expect("refresh", answer, OK):
                user.access_token, user.refresh_token = answer.body["access_token"], answer.body["refresh_token"]

    async def secret(self) -> None:
        """Create a secret, check its status, open it twice, in sequence or concurrently, and get its receipt."""
        text = self._texts.short() or "-"
        made = await self._create("/generate", {"secret": text, "ttl": TTL})
        if made is None:
            return
        key = made.body["secret_key"]
        look = await self._client.ask("GET", "/secrets/{key}", key=key)
        if self._expect("status of a secret", look, OK):
            self._check("status of a secret: not available", look.body["opens_left"] == 1)
        if next(self._rounds) % 2:
            answers = [await self._open(key), await self._open(key)]
        else:
            answers = list(await asyncio.gather(self._open(key), self._open(key)))
        self._judge_openings(answers, text)
        receipt = await self._client.ask("GET", "/receipts/{key}", key=made.body["receipt_key"])
        if self._expect("receipt", receipt, OK) and not any(answer.is_fault for answer in answers):
            self._check("receipt: not opened", receipt.body["state"] == "opened")

    async def phrase(self) -> None:
        """Create a secret with a phrase, and open it with a wrong phrase, then twice with the right one."""
        text, phrase = self._texts.short() or "-", secrets.token_urlsafe(8)
        made = await self._create("/generate", {"secret": text, "phrase": phrase, "max_attempts": ATTEMPTS, "ttl": TTL})
        if made is None:
            return
        key = made.body["secret_key"]
        wrong = await self._open(key, phrase + "x")
        if self._expect("wrong phrase", wrong, FORBIDDEN):
            self._check("wrong phrase: attempts left", wrong.body.get("attempts_left") == ATTEMPTS - 1)
        self._judge_openings([await self._open(key, phrase), await self._open(key, phrase)], text)

    async def message(self) -> None:
        """Create a message, read it twice, burn it, and check that it is gone."""
        text = self._texts.short() or "-"
        made = await self._create("/", {"message": text, "ttl": TTL})
        if made is None:
            return
        key = made.body["url"].rpartition("/")[2]
        for _ in range(2):
            read = await self._client.ask("GET", "/message/{key}", key=key)
            if self._expect("message", read, OK):
                self._check("message: another text", read.body["message"] == text)
        burned = await self._client.ask("DELETE", "/receipts/{key}", key=made.body["receipt_key"])
        if self._expect("burn a message", burned, NO_CONTENT):
            self._expect("burned message", await self._client.ask("GET", "/message/{key}", key=key), NOT_FOUND)

    async def post(self) -> None:
        """Publish a post, let all users react to it concurrently, some of them twice, and check the counts."""
        author = next(self._next_user)
        content = self._texts.short() or "-"
        made = await self._client.ask("POST", "/posts", {"content": content, "ttl": TTL}, token=author.api_token)
        if not self._expect("publish a post", made, CREATED):
            return
        key = made.body["id"]
        reactions = await asyncio.gather(*(self._react(key, user) for user in self._users))
        shown = await self._client.ask("GET", "/posts/{key}", key=key, token=author.access_token)
        if self._expect("post", shown, OK):
            self._check("post: another text", shown.body["content"] == content)
            if None not in reactions:
                counts = [reactions.count(kind) for kind in ("like", "dislike")]
                self._check("post: other counts", [shown.body["likes"], shown.body["dislikes"]] == counts)
        page = await self._client.ask("GET", "/posts", token=author.access_token)
        self._expect("list of posts", page, OK)
        deleted = await self._client.ask("DELETE", "/posts/{key}", key=key, token=author.access_token)
        if self._expect("delete a post", deleted, NO_CONTENT):
            gone = await self._client.ask("GET", "/posts/{key}", key=key, token=author.access_token)
            self._expect("deleted post", gone, NOT_FOUND)

    async def hello(self) -> None:
        """Get the greeting."""
        self._expect("hello", await self._client.ask("GET", "/hello"), OK)

    async def _react(self, key: str, user: VirtualUser) -> str | None:
        """React once or twice; return the final reaction, `none` if it was removed, or None if it is unknown."""
        final: str | None = "none"
        for kind in self._random.sample(("like", "dislike", "none"), k=self._random.randint(1, 2)):
            method, route = ("DELETE", "/posts/{key}/reaction") if kind == "none" else ("PUT", f"/posts/{{key}}/{kind}")
            answer = await self._client.ask(method, route, key=key, token=user.api_token)
            if self._expect("reaction", answer, OK):
                self._check("reaction: another one", (answer.body["mine"] or "none") == kind)
            final = kind if answer.status == OK and final is not None else None
        return final

    async def _create(self, path: str, body: object) -> TimedResponse | None:
        answer = await self._client.ask("POST", path, body, token=next(self._next_user).api_token)
        return answer if self._expect(f"POST {path}", answer, CREATED) else None

    async def _open(self, key: str, phrase: str | None = None) -> TimedResponse:
        return await self._client.ask("POST", "/secrets/{key}", {"phrase": phrase} if phrase else {}, key=key)

    def _judge_openings(self, answers: list[TimedResponse], text: str) -> None:
        """Check that exactly one opening returned the text, and the other 404."""
        if any(answer.is_fault for answer in answers):
            opened = [answer for answer in answers if answer.status == OK]
            self._check("secret: opened twice", len(opened) < len(answers))
            return
        self._check("secret: not once", sorted(answer.status for answer in answers) == [OK, NOT_FOUND])
        for answer in answers:
            if answer.status == OK:
                self._check("secret: another text", answer.body["secret"] == text)

    def _expect(self, name: str, answer: TimedResponse, status: int) -> bool:
        if answer.is_fault:
            return False
        return self._tally.check(f"{name}: {answer.status} for {status}", is_right=answer.status == status)

    def _check(self, name: str, is_right: bool) -> None:
        self._tally.check(name, is_right=is_right)
