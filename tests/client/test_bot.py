"""The activity bot on a real server, and on servers that are wrong."""

import asyncio
import json
import re
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from src.client.bot import feed, workers
from src.client.bot.plan import Size, make_plan
from src.client.bot.run import DELETING, STOPPING, Bot
from src.client.transport import Transport

from .. import programs
from ..conftest import Api
from ..processes import PATIENCE
from .conftest import Dialogue, Typed
from .liar import LOST, Forward, Lie, Told, liar, problem
from .servers import STALL, odd_server, reply

SMALL = ("bot", "--users", "3", "--posts", "4", "--likes", "10", "--secrets", "2", "--seed", "7")
NOTHING = Told(404, {"code": "key_not_found", "detail": "Key not found"})


async def counts(api: Api) -> list[int]:
    """Return how many users, posts and reactions the server has."""
    return [await api.mongo.collection(name).count_documents({}) for name in ("users", "posts", "reactions")]


async def test_a_server_that_is_right_passes(api: Api, url: str, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report says so, the accounts are gone with all that they wrote, and a second run repeats the first."""
    monkeypatch.setattr(feed, "PAGE", 3)
    ended, again = await typed(*SMALL), await typed(*SMALL, "--concurrency", "1")

    assert (0, 0) == (ended.code, again.code), ended.stderr
    assert [0, 0, 0] == await counts(api)
    assert "3 users, 4 posts, 10 reactions and 2 secrets on http://127.0.0.1" in ended.stderr
    assert "checks passed, after" in ended.stderr
    lines = {line.partition("  ")[0]: line.split()[-3:] for line in ended.stdout.splitlines() if line}
    assert ["2", "0", "0"] == lines["secrets opened exactly once"]
    assert ["4", "0", "0"] == lines["likes and dislikes counted right"]
    assert {"register", "sign in", "publish", "react", "share", "open", "delete account", "all"} <= set(lines)
    assert "wrong:" not in ended.stdout


async def test_what_is_kept_is_as_planned(api: Api, url: str, typed: Typed) -> None:
    """The report is one JSON object, and says under which names the accounts are."""
    ended = await typed(*SMALL, "--keep", "--json")
    report = json.loads(ended.stdout)
    token = await api.sign_up()
    _, page = await api.call("GET", "/posts", token=token)
    kept = page["posts"]
    prefix, moves = report["names_begin_with"], report["requests"]["react"]["requests"]

    assert (0, 0, []) == (ended.code, report["exit_code"], report["wrong"]), ended.stderr
    assert [4, 4] == [len(kept), report["checks"]["posts in the feed"]["right"]]
    assert {prefix} == {post["author"][:11] for post in kept}
    assert {None} == {post["expires_at"] for post in kept}
    assert 0 < sum(post["likes"] + post["dislikes"] for post in kept) <= 10 <= moves
    assert (7, 3, 3) == (report["seed"], report["users"], report["accounts_left"])
    assert f"3 accounts and their posts are left on the server; their names begin with {prefix}" in ended.stderr
    assert {"requests", "errors", "p50", "p95", "p99"} == set(report["requests"]["all"])


async def test_bars_show_how_far_it_is(url: str, dialogue: Dialogue) -> None:
    """On stderr, and the report below them."""
    async with dialogue(*SMALL) as terminal:
        for text in ("accounts", "posts", "reactions and secrets", "checks", "cleanup", "p99 ms", "checks passed"):
            await terminal.expect(text)


def route(call: str) -> str:
    """Return the method and the first part of the path."""
    return "/".join(call.split("/")[:2])


def telling(prefix: str, change: Callable[[Told], Told]) -> Lie:
    """Return a lie about the answers to what begins with a method and a path."""

    async def lie(call: str, forward: Forward) -> Told:
        told = await forward()
        return change(told) if call.startswith(prefix) and told.status == 200 else told

    return lie


def with_members(**members: Any) -> Callable[[Told], Told]:
    """Return what puts other members into an answer; a function gets the true value."""

    def change(told: Told) -> Told:
        body = dict(told.body)
        for name, value in members.items():
            body[name] = value(body[name]) if callable(value) else value
        return Told(told.status, body)

    return change


def opens_twice() -> Lie:
    """Return the lie of a server that shows a secret to the second reader as well."""
    opened: dict[str, Told] = {}

    async def lie(call: str, forward: Forward) -> Told:
        told = await forward()
        if call.startswith("POST /secrets/"):
            return opened.setdefault(call, told) if told.status == 200 else opened.pop(call, told)
        return told

    return lie


async def forget_likes(call: str, forward: Forward) -> Told:
    """Tell that a like is counted, and forget it."""
    if call.endswith("/like"):
        return Told(200, {"likes": 1, "dislikes": 0, "mine": "like"})
    return await forward()


async def refuse_reactions(call: str, forward: Forward) -> Told:
    """Know no post when it is reacted to."""
    return problem(404, "post_not_found") if call.startswith("PUT /posts/") else await forward()


def posts(change: Callable[[list[Any]], list[Any]]) -> Lie:
    """Return a lie about the lists of posts."""

    async def lie(call: str, forward: Forward) -> Told:
        told = await forward()
        return Told(200, {**told.body, "posts": change(told.body["posts"])}) if call == "GET /posts" else told

    return lie


WRONG: dict[str, tuple[Lie, str]] = {
    "opens twice": (opens_twice(), "was opened 2 times"),
    "opens for nobody": (telling("POST /secrets/", lambda _: NOTHING), "is gone, but none of its"),
    "gives another text": (telling("POST /secrets/", with_members(secret="x")), "had another text than the one"),
    "leaves openings": (telling("POST /secrets/", with_members(opens_left=1)), "is said to have views left"),
    "has a receipt that lies": (telling("GET /receipts/", with_members(state="waiting")), "does not say that it was"),
    "miscounts likes": (
        telling("GET /posts/", with_members(likes=lambda likes: likes + 1)),
        "likes, but the server counts",
    ),
    "hides counts": (telling("GET /posts/", with_members(dislikes=None)), "dislikes, but the server counts none"),
    "forgets likes": (forget_likes, "likes, but the server counts 0"),
    "mixes up who likes": (telling("GET /posts/", with_members(mine="hate")), "own reaction is shown incorrectly"),
    "answers another reaction": (telling("PUT /posts/", with_members(mine="x")), "has another reaction"),
    "does not count a reaction": (telling("PUT /posts/", with_members(likes=0, dislikes=0)), "does not count it"),
    "changes a text": (telling("GET /posts/", with_members(content="x")), "differs from the text that was sent"),
    "changes an author": (posts(lambda shown: [{**post, "author": "x"} for post in shown]), "differs in the feed from"),
    "leaves out a post": (posts(lambda shown: shown[:-1]), "is missing from the feed"),
    "leaves out one of a list": (posts(lambda shown: shown[:-1]), "are missing from the list"),
    "lists a post twice": (posts(lambda shown: [*shown[:1], *shown]), "has duplicates or is out of order"),
    "lists what nobody wrote": (posts(lambda shown: [*shown, {"id": "0" * 32}]), "has 1 unexpected posts"),
    "refuses reactions": (refuse_reactions, "valid request"),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_server_that_is_wrong_is_found_out(api: Api, url: str, typed: Typed, wrong: str) -> None:
    """The exit code is 1, and words say what is wrong; the accounts are gone all the same."""
    lie, words = WRONG[wrong]
    async with liar(url, lie) as address:
        ended = await typed(*SMALL, "--url", address)

    assert 1 == ended.code, ended.stdout
    assert words in ended.stdout + ended.stderr
    assert "sealpost: the server " in ended.stderr
    assert [0, 0, 0] == await counts(api)


async def test_what_passes_is_waited_out(api: Api, url: str, typed: Typed) -> None:
    """Refusals for a while, and connections that break where a request may be sent again, cost time alone."""
    told = {"POST /register": 1, "POST /generate": 2, "PUT /posts": 1}

    async def lie(call: str, forward: Forward) -> Told:
        kind = route(call)
        if told.get(kind, 0) < 1:
            return await forward()
        told[kind] -= 1
        if kind == "POST /generate":
            return problem(429, "too_many", Retry_After="0")
        await forward()
        return problem(503, "unavailable", Retry_After="0") if kind == "POST /register" else LOST

    async with liar(url, lie) as address:
        ended = await typed(*SMALL, "--json", "--url", address)
    report = json.loads(ended.stdout)
    errors = {(one["action"], one["error"]): one["times"] for one in report["errors"]}

    assert 0 == ended.code, ended.stderr
    assert {
        ("register", "503 unavailable"): 1,
        ("share", "429 too_many"): 2,
        ("react", "connection lost"): 1,
    } == errors
    assert 1 == ended.stderr.count("limits requests per address (429)")
    assert "SEALPOST_RATE_LIMITS=off" in ended.stderr
    assert [0, 0, 0] == await counts(api)


async def test_what_cannot_be_known_is_not_called_wrong(api: Api, url: str, typed: Typed) -> None:
    """A lost opening, a lost post: not all was done, and the rest is right."""
    lost = {"POST /posts", "POST /secrets"}

    async def lie(call: str, forward: Forward) -> Told:
        told, kind = await forward(), route(call)
        if kind not in lost or told.status >= 400:
            return told
        lost.discard(kind)
        return LOST

    async with liar(url, lie) as address:
        ended = await typed(*SMALL, "--json", "--url", address)
    report = json.loads(ended.stdout)

    assert (3, [], 2) == (ended.code, report["wrong"], report["failed"]), ended.stderr
    assert [1, 1] == [
        report["checks"][name]["not_checked"] for name in ("secrets opened exactly once", "posts as they were written")
    ]
    assert "the run is incomplete: 2 requests failed; all checks so far passed" in ended.stderr
    assert [0, 0, 0] == await counts(api)


def instead(call: str, told: Told, *, forwarded: bool = False) -> Lie:
    """Return a lie in place of each answer to a method and the first part of a path."""

    async def lie(given: str, forward: Forward) -> Told:
        if route(given) != call:
            return await forward()
        if forwarded:
            await forward()
        return told

    return lie


DAMAGED = problem(410, "damaged")
KEYS = {"secret_key": "../me", "receipt_key": "x"}
BROKEN: dict[str, tuple[Lie, int, str, int]] = {
    "no token": (instead("POST /login", Told(200, {})), 3, "unexpected response at sign in", 3),
    "no post": (instead("POST /posts", Told(201, {"id": "x"})), 3, "unexpected response at publish", 0),
    "no list": (posts(lambda _: [1]), 3, "unexpected response at list posts", 0),
    "no key": (instead("POST /generate", Told(201, {})), 3, "unexpected response at share", 0),
    "another key": (instead("POST /generate", Told(201, KEYS)), 3, "unexpected response at share", 0),
    "damaged posts": (instead("GET /posts", DAMAGED), 1, "410 damaged at list posts", 0),
    "damaged receipts": (instead("GET /receipts", DAMAGED), 1, "410 damaged at receipt", 0),
    "no sharing": (instead("POST /generate", problem(403, "<b>")), 1, "403 at share", 0),
    "no more sharing": (
        instead("POST /generate", problem(429, "too_many", Retry_After="900")),
        3,
        "429 too_many at share",
        0,
    ),
    "no registrations": (instead("POST /register", DAMAGED), 1, "410 damaged at register", 0),
    "lost registrations": (instead("POST /register", LOST), 3, "connection lost at register", 0),
    "lost accounts": (instead("POST /register", LOST, forwarded=True), 3, "connection lost at register", 0),
}


@pytest.mark.parametrize("broken", BROKEN)
async def test_what_a_broken_server_answers_is_counted(api: Api, url: str, typed: Typed, broken: str) -> None:
    """By its kind, and without a traceback; accounts are deleted where somebody can sign in."""
    lie, code, words, left = BROKEN[broken]
    async with liar(url, lie) as address:
        ended = await typed(*SMALL, "--concurrency", "4", "--url", address)

    assert (code, "") == (ended.code, "".join(line for line in ended.stdout.splitlines() if "wrong:" in line))
    assert words.replace(" at ", " ") in " ".join(ended.stdout.split())
    assert left == (await counts(api))[0]
    assert (f"{left} accounts and their posts are left" in ended.stderr) == bool(left)


async def test_a_limit_on_registrations_is_told_once(serve: Callable[..., Awaitable[Api]], typed: Typed) -> None:
    """It stops the run, and the words say what to do; what was made is deleted."""
    api = await serve(rate_limits="on", limit_register="2 per 1 hour")
    address = str(api.client.make_url("")).rstrip("/")
    ended = await typed("bot", "--users", "40", "--url", address, "--json")
    report = json.loads(ended.stdout)

    assert 3 == ended.code
    assert 1 == ended.stderr.count("limits registrations per address")
    assert all(word in ended.stderr for word in ("--users", "SEALPOST_LIMIT_REGISTER", "SEALPOST_RATE_LIMITS=off"))
    # A second may have passed.
    assert re.search(r"Try again in (1 hour|59 minutes)", ended.stderr)
    assert [("register", "429 limit_reached")] == [(one["action"], one["error"]) for one in report["errors"]]
    assert 0 == report["accounts_left"]
    assert [0, 0, 0] == await counts(api)


async def test_a_server_that_goes_away_ends_the_run(url: str, typed: Typed) -> None:
    """Not every request of the plan has to find out by itself."""
    left = 12

    async def lie(call: str, forward: Forward) -> Told:
        nonlocal left
        left -= 1
        return LOST if left < 0 else await forward()

    async with liar(url, lie) as address:
        ended = await typed(*SMALL, "--posts", "500", "--concurrency", "2", "--url", address)

    assert 3 == ended.code
    # The fourth one ends it, and another one may be under way then.
    assert re.search(r"gave up: [45] consecutive requests were not answered", ended.stderr)
    assert "are left on the server" in ended.stderr


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--users", "0"], 2, "--users"),
        (["--posts", "-1"], 2, "--posts"),
        (["--users", "1000000000000"], 2, "--users"),
        (["--concurrency", "0"], 2, "--concurrency"),
        (["--seed", "x"], 2, "--seed"),
        (["--users", "2", "--posts", "3", "--likes", "7"], 2, "2 users and 3 posts allow at most 6"),
        (["--url", "http://127.0.0.1:1"], 3, "cannot reach"),
        (["--url", "http://secrets.example.org"], 2, "plain http"),
    ],
)
async def test_what_cannot_be_done_is_said_at_once(typed: Typed, options: list[str], code: int, words: str) -> None:
    """Before anything is sent."""
    ended = await typed("bot", *options, COLUMNS="200")

    assert (code, "", True) == (ended.code, ended.stdout, words in ended.stderr), ended.stderr


async def test_what_is_no_sealpost_is_left_alone(typed: Typed) -> None:
    """Nobody registers with a stranger."""
    async with odd_server([reply(200, "<html>")]) as server:
        ended = await typed(*SMALL, "--url", server.url)

    assert (3, ["GET /readyz"]) == (ended.code, server.lines)


@pytest.mark.lifecycle
async def test_ctrl_c_ends_in_good_order(api: Api, url: str) -> None:
    """With the report of what was done, and without the accounts."""
    arguments = ("bot", "--users", "4", "--posts", "5000", "--likes", "9", "--seed", "7", "--json", "--url", url)
    async with programs.running("-m", "src.client", *arguments, environment={}) as process:
        async with asyncio.timeout(PATIENCE):
            while not await api.mongo.collection("posts").count_documents({}):
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    report = json.loads(out)

    assert (130, True, 0) == (process.returncode, report["interrupted"], report["accounts_left"]), err
    assert b"stopping" in err
    assert b"Traceback" not in err
    assert 0 < report["requests"]["publish"]["requests"] < 5000
    assert [0, 0, 0] == await counts(api)


@pytest.mark.lifecycle
async def test_ctrl_c_twice_ends_at_once(url: str) -> None:
    """Also where nothing is answered."""
    async with (
        odd_server([reply(200, '{"status": "ready"}'), STALL]) as server,
        programs.running("-m", "src.client", *SMALL, "--url", server.url, environment={}) as process,
        asyncio.timeout(PATIENCE),
    ):
        while len(server.requests) < 2:
            await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        await process.stderr.readuntil(b"stopping")
        process.send_signal(signal.SIGINT)
        rest = await process.stderr.read()
        code = await process.wait()

    assert 130 == code
    assert b"Traceback" not in rest


async def test_what_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job under way gets a moment when the run has to end, and no more."""
    monkeypatch.setattr(workers, "GRACE", 0.01)
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("hanging")

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await workers.run_jobs([hang, fail, hang], at_once=2, stopping=lambda: None)

    assert ["hanging"] == ended


async def run_bot(url: str, disturb: Callable[[str], object], said: list[str]) -> Bot:
    """Run the bot in this task, and disturb it when a phase begins."""

    def bars(name: str, _: int) -> Callable[[], None]:
        disturb(name)
        return lambda: None

    async with Transport(url, tls=None, timeout=PATIENCE, keep_alive=True) as transport:
        plan = make_plan(Size(3, 4, 10, 2), 7)
        bot = Bot(transport, plan, at_once=1, keep=False, bars=bars, notify=said.append)
        await bot.run()
    return bot


async def test_an_interrupted_run_is_cleaned_up(api: Api, url: str) -> None:
    """Unless that is interrupted as well; then it says how much is left."""
    task = asyncio.current_task()
    assert task is not None
    said: list[str] = []
    bot = await run_bot(url, lambda phase: phase == "posts" and task.cancel(), said)

    assert (True, 0, [DELETING]) == (bot.ending.interrupted, bot.ending.accounts_left, said)
    assert [0, 0, 0] == await counts(api)

    bot = await run_bot(url, lambda phase: phase == "cleanup" and task.cancel(), said)
    assert (True, 2, STOPPING) == (bot.ending.interrupted, bot.ending.accounts_left, said[-1])
    assert 2 == (await counts(api))[0]

    with pytest.raises(asyncio.CancelledError):
        await run_bot(url, lambda phase: phase == "posts" and [task.cancel(), task.cancel()], said)
    task.uncancel()
    assert 5 == (await counts(api))[0]


async def test_a_fault_of_its_own_leaves_no_accounts(api: Api, url: str) -> None:
    """Whatever it is."""

    def fail(phase: str) -> None:
        assert phase != "posts"

    with pytest.raises(AssertionError):
        await run_bot(url, fail, [])

    assert [0, 0, 0] == await counts(api)
