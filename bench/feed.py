"""`make bench-feed`: latency of the first and the last page of the feed, of a year of analytics, and of likes.

Starts nginx and 4 workers, fills their database with posts and reactions, and measures pages, analytics and likes in
one run. Prints every measurement with its target, and writes all of them to ``bench/results/``. The exit code is 1 if a
response was wrong or a target was missed.
"""

import argparse
import asyncio
import http
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
from src.core.database.embedded import embedded_mongod
from src.posts.schemas import LARGEST_PAGE

from .connection import WrongAnswerError, connect
from .fill import read_ring
from .fill_posts import AUTHORS, PostsDatabase, count_reactions, fill_posts
from .latency import percentile
from .machine import has_programs, write_result

HERE = Path(__file__).parent
PAGE = 20
THREADS = 2
CONNECTIONS = 64
LIFE = timedelta(minutes=10)
"""Lifetime of the tokens: paging through the feed is faster, and each measurement begins with new ones."""
MOST_TIMES_FIRST_PAGE = 2.0
MOST_MS_ANALYTICS = 1000.0
FEED, AUTHOR = "feed", "author's posts"
FIRST, LAST = "first page", "last page"
YEAR = "analytics of a year"


@dataclass(frozen=True)
class RequestLatency:
    """The latency of a request in milliseconds, and the number of requests sent."""

    name: str
    requests: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class LikesResult:
    """The result of many users who react to one post.

    ``counts`` are its stored counts, ``reactions`` the counts of its reactions; both of likes and dislikes.
    """

    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    unexpected: int
    socket_errors: int
    counts: tuple[int, int]
    reactions: tuple[int, int]


class FeedClient:
    """A connection of one user to the stack."""

    def __init__(self, running: RunningStack, token: str) -> None:
        self._connection = connect(running.url)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, parameters: Mapping[str, str]) -> tuple[Any, float]:
        """Return an answer and its latency in milliseconds. Raises `WrongAnswerError` for any status but 200."""
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

    def __init__(self, seconds: int, running: RunningStack, data_dir: Path, filled: PostsDatabase) -> None:
        self._seconds = seconds
        self._running = running
        self._data_dir = data_dir
        self._filled = filled
        self._tokens = AccessTokens(read_ring(data_dir))
        self.figures: list[RequestLatency] = []

    def pages(self, name: str, ids: list[bytes], query: dict[str, str]) -> float:
        """Page through a list to its end, then measure the first and the last page in turns; return last over first.

        Raises `WrongAnswerError` unless the pages contain each post once, newest first.
        """
        client = self._client()
        largest, small = {**query, "limit": str(LARGEST_PAGE)}, {**query, "limit": str(PAGE)}
        seen: list[str] = []
        cursor: str | None = None
        while True:
            # Large pages first, then small ones, so that the last page is as long as the first.
            step = largest if len(ids) - len(seen) > LARGEST_PAGE else small
            asked = {**step, "cursor": cursor} if cursor else step
            page, _ = client.get("/posts", asked)
            seen += [post["id"] for post in page["posts"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        if [post_id.hex() for post_id in reversed(ids)] != seen:
            raise WrongAnswerError(f"{name}: the pages do not contain each post once, newest first")
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
        """Measure a year of analytics and return the longest latency in milliseconds."""
        client = self._client()
        today = utc_now().date()
        year = {"from": str(today - timedelta(days=365)), "to": str(today)}
        expected = [len(self._filled.post_ids), self._filled.likes, self._filled.dislikes]
        times = []
        for _ in self._while():
            answer, milliseconds = client.get("/posts/analytics", year)
            times.append(milliseconds)
            if expected != [sum(day[name] for day in answer["days"]) for name in ("posts", "likes", "dislikes")]:
                raise WrongAnswerError(f"{YEAR}: the counts are not {expected}")
        self._note(YEAR, times)
        return max(times)

    def likes(self) -> LikesResult:
        """Let all users react to the newest post, then read its counts and its reactions."""
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
        return LikesResult(CONNECTIONS, per_second, **result, counts=counts, reactions=reactions)

    def _client(self) -> FeedClient:
        return FeedClient(self._running, self._token(self._filled.people[-1]))

    def _token(self, user: User) -> str:
        # The token of a login, without the time to check a password.
        now = utc_now()
        claims = AccessClaims(user.user_id, session_id=user.user_id)
        return self._tokens.write(claims, issued_at=now, expires_at=now + LIFE)

    def _while(self) -> Iterator[None]:
        until = time.monotonic() + self._seconds
        while time.monotonic() < until:
            yield

    def _note(self, name: str, times: list[float]) -> RequestLatency:
        figure = RequestLatency(name, len(times), round(statistics.median(times), 2), round(percentile(times, 0.99), 2))
        self.figures.append(figure)
        print(f"{figure.name:<42}{figure.requests:>8}{figure.p50_ms:>10.1f}{figure.p99_ms:>10.1f}", flush=True)
        return figure


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.feed", description="Measure the feed of posts.")
    parser.add_argument("--posts", type=int, default=100_000, help="number of posts (default 100000)")
    parser.add_argument("--people", type=int, default=2000, help="number of users who react to them (default 2000)")
    parser.add_argument("--seconds", type=int, default=5, help="duration of each measurement (default 5)")
    parser.add_argument("--driver", choices=("motor", "pymongo"), default="motor", help="MongoDB client to measure")
    options = parser.parse_args()
    if options.posts <= 0 or options.posts % (AUTHORS * PAGE) or options.people < AUTHORS:
        parser.error(f"--posts must be a multiple of {AUTHORS * PAGE}, and --people at least {AUTHORS}")
    if not has_programs("wrk", "nginx"):
        return 2
    environment = {"SEALPOST_RATE_LIMITS": "off", "SEALPOST_MONGO_DRIVER": options.driver}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealpost-bench-")))
        data_dir = directory / "data"
        running = stack.enter_context(
            running_stack(data_dir=data_dir, log_dir=directory / "logs", environment=environment)
        )
        ring = read_ring(data_dir)
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
    targets = {
        f"{name}: {share:.2f}, target: at most {MOST_TIMES_FIRST_PAGE}": share <= MOST_TIMES_FIRST_PAGE
        for name, share in shares.items()
    }
    targets[f"{YEAR}: {slowest:.0f} ms at most, target: under {MOST_MS_ANALYTICS:.0f}"] = slowest < MOST_MS_ANALYTICS
    targets[f"likes: {likes.counts} counted, {likes.reactions} stored, target: equal"] = likes.counts == likes.reactions
    targets[f"likes: {likes.unexpected + likes.socket_errors} errors, target: none"] = (
        not likes.unexpected + likes.socket_errors
    )
    print("\n".join(f"{'met' if is_met else 'MISSED':>8}  {target}" for target, is_met in targets.items()))
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
    return 0 if all(targets.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
