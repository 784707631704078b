"""What the bot is going to do, and how it counts."""

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from src.client.bot.calls import kind_of
from src.client.bot.plan import (
    MOST_READERS,
    MOST_USERS,
    Move,
    PlannedPost,
    PlannedReaction,
    PlannedSecret,
    Size,
    make_name,
    make_plan,
)
from src.client.bot.posts import PublishedPost
from src.client.bot.tally import percentile
from src.client.errors import NotSealpost, OutcomeUnknown, Unreachable
from src.client.responses import JsonObject, Response

PREFIX = "bot-3fa9c1-"
POST = PlannedPost(0, None, "a text")


@st.composite
def sizes(draw: st.DrawFn) -> Size:
    users, posts = draw(st.integers(1, 12)), draw(st.integers(0, 12))
    return Size(users, posts, draw(st.integers(0, users * posts)), draw(st.integers(0, 12)))


@given(sizes(), st.integers(0, 10**12))
def test_a_seed_repeats_the_plan(size: Size, seed: int) -> None:
    """It has what was asked for, nobody reacts twice to a post, and every text is the only one of its kind."""
    plan = make_plan(size, seed)
    reactions = [act for act in plan.acts if isinstance(act, PlannedReaction)]
    secrets = [act for act in plan.acts if isinstance(act, PlannedSecret)]
    pairs = {(one.user, one.post) for one in reactions}
    texts = {post.content for post in plan.posts} | {one.text for one in secrets}

    assert plan == make_plan(size, seed)
    assert size == Size(len(plan.users), len(plan.posts), len(pairs), len(secrets))
    assert len(reactions) == len(pairs)
    assert size.posts + size.secrets == len(texts)
    assert all(len(text.encode()) < 10_000 for text in texts)
    assert all(len(post.title or "") <= 200 for post in plan.posts)
    assert all(re.fullmatch("[A-Za-z0-9_.-]{3,32}", PREFIX + name) for name in plan.users)
    assert all(0 <= one.user < size.users and 0 <= one.post < size.posts and one.moves for one in reactions)
    assert all(0 <= one.sender < size.users and 2 <= one.readers <= MOST_READERS for one in secrets)


def test_each_part_of_a_plan_stands_for_itself() -> None:
    """With more likes the posts stay the same, and another seed is another plan."""
    plan, more = (make_plan(Size(5, 8, likes, 3), 7) for likes in (10, 30))

    assert plan.posts == more.posts
    assert plan.users == more.users
    assert plan.posts != make_plan(Size(5, 8, 10, 3), 8).posts


def test_a_plan_has_changes_of_mind() -> None:
    """Without them, only the simplest of counts would be tried out."""
    acts = make_plan(Size(20, 20, 200, 40), 7).acts
    moves = Counter(act.moves for act in acts if isinstance(act, PlannedReaction))

    assert {(Move.LIKE,), (Move.DISLIKE, Move.LIKE), (Move.LIKE, Move.WITHDRAW), (Move.LIKE, Move.LIKE)} <= set(moves)
    assert {True, False} == {act.has_phrase for act in acts if isinstance(act, PlannedSecret)}


def test_the_longest_name_is_one_that_servers_take() -> None:
    """With the prefix of a run, 32 characters are the most."""

    class Longest:
        def choice(self, words: tuple[str, ...]) -> str:
            return max(words, key=len)

    assert 32 >= len(PREFIX + make_name(Longest(), MOST_USERS))  # type: ignore[arg-type]


def test_what_is_not_known_widens_what_is_right() -> None:
    """A like whose answer was lost may count or not; one that was answered has to."""
    post = PublishedPost("0" * 32, 1, "ann", POST)
    post.opinions = {0: frozenset({"like"}), 1: frozenset({None, "like"}), 2: frozenset({"like", "dislike"})}

    assert [1, 2, 3] == list(post.bounds("like"))
    assert [0, 1] == list(post.bounds("dislike"))


def test_errors_are_counted_by_kind() -> None:
    """By what a person can tell apart, and never in the words of a stranger."""
    outcomes = (
        OutcomeUnknown("x"),
        OutcomeUnknown("x", passing=True),
        Unreachable("x", passing=True),
        NotSealpost("x"),
        Response("x", 429, JsonObject(code="too_many")),
        Response("x", 502, JsonObject(code="<b>")),
    )

    assert [
        "timeout",
        "connection lost",
        "no connection",
        "unexpected response",
        "429 too_many",
        "502",
    ] == [kind_of(outcome) for outcome in outcomes]


def test_percentiles_are_times_that_were_measured() -> None:
    """By nearest rank, in milliseconds; of nothing there is none."""
    ordered = [number / 1000 for number in range(1, 201)]

    assert [100.0, 190.0, 198.0] == [percentile(ordered, share) for share in (50, 95, 99)]
    assert [5.0, 5.0] == [percentile([0.005], share) for share in (50, 99)]
    assert percentile([], 50) is None
