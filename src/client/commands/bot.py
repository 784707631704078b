"""The activity bot."""

import secrets as randomness
from typing import TYPE_CHECKING, Annotated

import typer

from ..blocking_api import make_transport, server_url
from ..bot.plan import (
    LIKES,
    MOST_LIKES,
    MOST_POSTS,
    MOST_SECRETS,
    MOST_SEED,
    MOST_USERS,
    POSTS,
    SECRETS,
    USERS,
    Size,
    choose_likes,
    make_plan,
)
from ..options import Shared, shared_of
from ..output import say

if TYPE_CHECKING:
    from ..bot.report import RunReport

AT_ONCE, MOST_AT_ONCE = 16, 100
"""Requests; a server's default limit is 100 concurrent requests from an address."""
MOST_DRAWN_SEED = 10**6


def bot(
    context: typer.Context,
    *,
    users: Annotated[int, typer.Option("--users", metavar="N", min=1, max=MOST_USERS, help="Number of users.")] = USERS,
    posts: Annotated[int, typer.Option("--posts", metavar="N", min=0, max=MOST_POSTS, help="Number of posts.")] = POSTS,
    likes: Annotated[
        int | None,
        typer.Option(
            "--likes", metavar="N", min=0, max=MOST_LIKES, help=f"Number of likes and dislikes; {LIKES} by default."
        ),
    ] = None,
    secrets: Annotated[
        int, typer.Option("--secrets", metavar="N", min=0, max=MOST_SECRETS, help="Number of secrets.")
    ] = SECRETS,
    seed: Annotated[
        int | None,
        typer.Option("--seed", metavar="N", min=0, max=MOST_SEED, help="Repeat the activity of an earlier run."),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", min=1, max=MOST_AT_ONCE, help="Number of concurrent requests.")
    ] = AT_ONCE,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the accounts and posts on the server.")] = False,
) -> None:
    """Test a server: simulate users who post, react and share secrets, and check the results."""
    shared = shared_of(context)
    size = Size(users, posts, choose_likes(likes, users=users, posts=posts), secrets)
    chosen = randomness.randbelow(MOST_DRAWN_SEED) if seed is None else seed
    report = _run(shared, size, chosen, concurrency, keep=keep)
    report.show(shared.output)
    if report.ending.accounts_left:
        say(
            f"{report.ending.accounts_left} accounts and their posts are left on the server; their names begin with"
            f" {report.ending.prefix}"
        )
    if error := report.error():
        raise error
    say(report.words())


def _run(shared: Shared, size: Size, seed: int, at_once: int, *, keep: bool) -> "RunReport":
    import asyncio  # noqa: PLC0415

    from ..bot.report import RunReport, bars  # noqa: PLC0415
    from ..bot.run import Bot  # noqa: PLC0415

    url = server_url(shared)

    async def run() -> Bot:
        async with make_transport(shared, url, keep_alive=True) as transport:
            (await transport.send("GET", "/readyz")).checked().text("status")
            bot = Bot(transport, make_plan(size, seed), at_once=at_once, keep=keep, bars=shown, notify=say)
            say(
                f"{size.users} users, {size.posts} posts, {size.likes} reactions and {size.secrets} secrets on {url}:"
                f" --seed {seed}. Usernames begin with {bot.ending.prefix}"
            )
            await bot.run()
            return bot

    with bars(shown=not shared.json, no_color=shared.no_color) as shown, asyncio.Runner() as runner:
        done = runner.run(run())
    given: dict[str, object] = {
        "url": url,
        "seed": seed,
        "users": size.users,
        "posts": size.posts,
        "likes": size.likes,
        "secrets": size.secrets,
        "concurrency": at_once,
    }
    return RunReport(given, done.tally, done.findings, done.ending)
