"""`make bench-feed`: what the feed of posts costs near its beginning and at its end, a year of analytics, and likes.

Fills a database with posts and reactions, starts nginx and four workers on it, and measures pages, analytics and likes
in one run. Prints every figure and what is asked of it, and writes all of it to ``bench/results/``. The exit code is 1
where an answer was wrong or something asked was missed.
"""

import argparse
import asyncio
import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bench.running_stack import RunningStack, running_stack
from src.accounts.access_tokens import AccessClaims, AccessTokens
from src.accounts.users import User
from src.core.clock import utc_now
from src.core.crypto.keys import KeyRing
from src.core.database.embedded import embedded_mongod
from src.posts.schemas import LARGEST_PAGE

from .fill_posts import AUTHORS, Filled, count_reactions, fill_posts
from .latency import percentile
from .machine import has_programs, write_result

HERE = Path(__file__).parent
PAGE = 20
THREADS = 2
CONNECTIONS = 64
LIFE = timedelta(minutes=10)
"""How long the tokens live: the walk through the feed takes less, and each measurement begins with new ones."""
MOST_TIMES_FIRST_PAGE = 2.0
MOST_MS_ANALYTICS = 1000.0
FEED, AUTHOR = "feed", "author's posts"
FIRST, LAST = "first page", "last page"
YEAR = "analytics of a year"


@dataclass(frozen=True)
class Figure:
    """How long a request took, in milliseconds, and how often it was sent."""

    name: str
    requests: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Likes:
    """What came of many people who react to one post; ``counts`` and ``reactions`` are likes and dislikes."""

    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    unexpected: int
    socket_errors: int
    counts: tuple[int, int]
    reactions: tuple[int, int]


class WrongAnswerError(Exception):
    """An answer is not what the database holds."""


class Client:
    """A connection of one user to the stack."""

    def __init__(self, running: RunningStack, token: str) -> None:
        host, port = running.url.removeprefix("http://").split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=60)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, parameters: Mapping[str, str]) -> tuple[Any, float]:
        """Return an answer and how many milliseconds it took. Raises `WrongAnswerError` for a problem."""
        began = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(parameters)}", headers=self._headers)
        response = self._connection.getresponse()
        text = response.read()
        milliseconds = (time.perf_counter() - began) * 1000
        if response.status != http.HTTPStatus.OK:
            raise WrongAnswerError(f"GET {path}: {response.status}")
        return json.loads(text), milliseconds


class FeedBench:
    """One run."""

    def __init__(self, seconds: int, running: RunningStack, data_dir: Path, filled: Filled) -> None:
        self._seconds = seconds
        self._running = running
        self._data_dir = data_dir
        self._filled = filled
        self._tokens = AccessTokens(KeyRing.parse((data_dir / "keys").read_text(encoding="ascii")))
        self.figures: list[Figure] = []

    def pages(self, name: str, ids: list[bytes], query: dict[str, str]) -> float:
        """Walk through a list to its last page, then measure the first and the last in turns; return last over first.

        Raises `WrongAnswerError` unless the walk has met each post once, the newest first.
        """
        client = self._client()
        largest, small = {**query, "limit": str(LARGEST_PAGE)}, {**query, "limit": str(PAGE)}
        seen: list[str] = []
        cursor: str | None = None
        while True:
            # In large steps until the last ones: those must end at a last page that is as long as the first.
            step = largest if len(ids) - len(seen) > LARGEST_PAGE else small
            asked = {**step, "cursor": cursor} if cursor else step
            page, _ = client.get("/posts", asked)
            seen += [post["id"] for post in page["posts"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        if [post_id.hex() for post_id in reversed(ids)] != seen:
            raise WrongAnswerError(f"{name}: the walk has not met each post once")
        times: dict[str, list[float]] = {FIRST: [], LAST: []}
        for _ in self._while():
            for which, parameters in ((FIRST, small), (LAST, asked)):
                page, milliseconds = client.get("/posts", parameters)
                times[which].append(milliseconds)
                if len(page["posts"]) != PAGE:
                    raise WrongAnswerError(f"{name}, {which}: {len(page['posts'])} posts")
        first, last = (self._note(f"{name}: {which}", times[which]) for which in (FIRST, LAST))
        return last.p50_ms / first.p50_ms

    def analytics(self) -> float:
        """Measure analytics of a year and return the slowest answer's time."""
        client = self._client()
        today = utc_now().date()
        year = {"from": str(today - timedelta(days=365)), "to": str(today)}
        expected = [len(self._filled.post_ids), self._filled.likes, self._filled.dislikes]
        times = []
        for _ in self._while():
            answer, milliseconds = client.get("/posts/analytics", year)
            times.append(milliseconds)
            if expected != [sum(day[name] for day in answer["days"]) for name in ("posts", "likes", "dislikes")]:
                raise WrongAnswerError(f"{YEAR}: not the {expected} that there are")
        self._note(YEAR, times)
        return max(times)

    def likes(self) -> Likes:
        """Have everybody react to the newest post, and see whether its counts are right."""
        post_id = self._filled.post_ids[-1]
        tokens = self._data_dir / "tokens"
        tokens.write_text("\n".join(map(self._token, self._filled.people)) + "\n", encoding="ascii")
        command = ["wrk", "-t", THREADS, "-c", CONNECTIONS, "-d", f"{self._seconds}s", "--timeout", "20s"]
        printed = subprocess.run(
            [*map(str, command), "-s", HERE / "likes.lua", self._running.url],
            env={**os.environ, "TOKENS": str(tokens), "POST_PATH": f"/posts/{post_id.hex()}", "THREADS": str(THREADS)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        result = json.loads(printed.rpartition("RESULT ")[2])
        with embedded_mongod(self._data_dir) as mongo_url:
            counts, reactions = asyncio.run(count_reactions(mongo_url, post_id))
        per_second = round(result.pop("requests") / result.pop("seconds"), 1)
        return Likes(CONNECTIONS, per_second, **result, counts=counts, reactions=reactions)

    def _client(self) -> Client:
        return Client(self._running, self._token(self._filled.people[-1]))

    def _token(self, user: User) -> str:
        # What a login gives, without the time that a password takes.
        now = utc_now()
        claims = AccessClaims(user.user_id, session_id=user.user_id)
        return self._tokens.write(claims, issued_at=now, expires_at=now + LIFE)

    def _while(self) -> Iterator[None]:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            yield

    def _note(self, name: str, times: list[float]) -> Figure:
        figure = Figure(name, len(times), round(statistics.median(times), 2), round(percentile(times, 0.99), 2))
        self.figures.append(figure)
        print(f"{figure.name:<42}{figure.requests:>8}{figure.p50_ms:>10.1f}{figure.p99_ms:>10.1f}", flush=True)
        return figure


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.feed", description="Measure the feed of posts.")
    parser.add_argument("--posts", type=int, default=100_000, help="how many there are (default 100000)")
    parser.add_argument("--people", type=int, default=2000, help="how many react to them (default 2000)")
    parser.add_argument("--seconds", type=int, default=5, help="how long each measurement takes (default 5)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    options = parser.parse_args()
    if options.posts <= 0 or options.posts % (AUTHORS * PAGE) or options.people < AUTHORS:
        parser.error(f"give posts in multiples of {AUTHORS * PAGE}, and at least {AUTHORS} people")
    if not has_programs("wrk", "nginx"):
        return 2
    environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        data_dir = directory / "data"
        running = stack.enter_context(
            running_stack(data_dir=data_dir, log_dir=directory / "logs", environment=environment)
        )
        ring = KeyRing.parse((data_dir / "keys").read_text(encoding="ascii"))
        with embedded_mongod(data_dir) as mongo_url:
            filled = asyncio.run(fill_posts(mongo_url, ring, posts=options.posts, people=options.people))
        bench = FeedBench(options.seconds, running, data_dir, filled)
        print(f"{'':<42}{'requests':>8}{'p50 ms':>10}{'p99 ms':>10}")
        try:
            shares = {
                f"{FEED}: last page over first page": bench.pages(FEED, filled.post_ids, {}),
                f"{AUTHOR}: last page over first page": bench.pages(
                    AUTHOR, filled.post_ids[::AUTHORS], {"author": filled.people[0].name}
                ),
            }
            slowest = bench.analytics()
            likes = bench.likes()
        except WrongAnswerError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    print(
        f"likes of one post, {likes.connections} connections: {likes.per_second:,.0f} per second, p99 {likes.p99_ms} ms"
    )
    kept = {
        f"{name}: {share:.2f}, asked: at most {MOST_TIMES_FIRST_PAGE}": share <= MOST_TIMES_FIRST_PAGE
        for name, share in shares.items()
    }
    kept[f"{YEAR}: {slowest:.0f} ms at most, asked: under {MOST_MS_ANALYTICS:.0f}"] = slowest < MOST_MS_ANALYTICS
    kept[f"likes: {likes.counts} counted, {likes.reactions} there, asked: the same"] = likes.counts == likes.reactions
    kept[f"likes: {likes.unexpected + likes.socket_errors} errors, asked: none"] = (
        not likes.unexpected + likes.socket_errors
    )
    print("\n".join(f"{'kept' if promise else 'MISSED':>8}  {name}" for name, promise in kept.items()))
    write_result(
        {
            "driver": options.driver,
            "posts": len(filled.post_ids),
            "reactions": filled.likes + filled.dislikes,
            "people": len(filled.people),
            "page": PAGE,
            "figures": [asdict(figure) for figure in bench.figures],
            "shares": {name: round(share, 2) for name, share in shares.items()},
            "slowest_analytics_ms": round(slowest, 1),
            "likes": asdict(likes),
        },
        "feed-",
    )
    return 0 if all(kept.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
