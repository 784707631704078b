"""Who does what, in which order. The same numbers and seed give the same plan."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from ..errors import WrongUsage

USERS, POSTS, LIKES, SECRETS = 10, 20, 100, 10
"""Defaults. A server's default limit is 10 registrations per address and hour."""
MOST_USERS, MOST_POSTS, MOST_LIKES, MOST_SECRETS = 10_000, 100_000, 1_000_000, 100_000
MOST_SEED = 10**12
LONGEST_TITLE = 200
FEWEST_WORDS, MOST_WORDS = 3, 40
"""Words in a text."""
FEWEST_READERS, MOST_READERS = 2, 4
"""Concurrent readers of a secret: fewer than the wrong passwords that would destroy it."""

_ADJECTIVES = (
    *("amber", "brisk", "calm", "dusty", "early", "faint", "grey", "hazy", "icy", "jolly", "keen", "lazy", "mild"),
    *("neat", "odd", "pale", "quiet", "rusty", "sandy", "tame", "urban", "vivid", "warm", "young", "zesty"),
)
_ANIMALS = (
    *("adder", "bison", "crane", "dingo", "egret", "finch", "gecko", "heron", "ibis", "jackal", "koala", "lynx"),
    *("marten", "newt", "otter", "panda", "quail", "raven", "stoat", "tapir", "urchin", "viper", "wombat", "zebra"),
)
# Texts that software often garbles: quotes, markup, escapes, line breaks, unusual Unicode.
_ODDITIES = (
    *('"quoted"', "it's", "<b>bold</b>", "&amp;", "back\\slash", "50 %", "a\ttab", "two\nlines", "CR\r\nLF", "{json}"),
    *(
        "naïve",
        "e\u0301",
        "größer",
        "Привет",
        "日本語",
        "שלום",
        "🦦",
        "👩🏽‍🚀",
        "\u200bzero",
        "\U0010ffff",
        "null",
        "\u2028",
    ),
)


class Move(StrEnum):
    """A user's action on a post."""

    LIKE = "like"
    DISLIKE = "dislike"
    WITHDRAW = "withdraw"

    @property
    def opinion(self) -> str | None:
        """The reaction afterwards."""
        return None if self is Move.WITHDRAW else self.value


# Most users react once. Some repeat, change or withdraw their reaction.
_MOVES = (
    *((Move.LIKE,), (Move.LIKE,), (Move.LIKE,), (Move.LIKE,), (Move.DISLIKE,), (Move.LIKE, Move.LIKE)),
    *((Move.LIKE, Move.DISLIKE), (Move.DISLIKE, Move.LIKE), (Move.LIKE, Move.WITHDRAW)),
    *((Move.DISLIKE, Move.WITHDRAW), (Move.LIKE, Move.WITHDRAW, Move.DISLIKE)),
)


@dataclass(frozen=True)
class Size:
    """The numbers of a run."""

    users: int = USERS
    posts: int = POSTS
    likes: int = LIKES
    secrets: int = SECRETS


@dataclass(frozen=True)
class PlannedPost:
    """A post; ``author`` is the number of a user, from 0."""

    author: int
    title: str | None
    content: str


@dataclass(frozen=True)
class PlannedReaction:
    """A user's moves on a post, in order."""

    user: int
    post: int
    moves: tuple[Move, ...]


@dataclass(frozen=True)
class PlannedSecret:
    """A secret, which so many readers try to open at once."""

    number: int
    sender: int
    text: str
    readers: int
    has_phrase: bool


@dataclass(frozen=True)
class Plan:
    """A whole run. ``acts`` are reactions and secrets in the order in which they start."""

    users: tuple[str, ...]
    posts: tuple[PlannedPost, ...]
    acts: tuple[PlannedReaction | PlannedSecret, ...]


def choose_likes(likes: int | None, *, users: int, posts: int) -> int:
    """Return the number of reactions: by default as many as possible, up to `LIKES`.

    Raises `WrongUsage` for more than possible.
    """
    possible = users * posts
    if likes is None:
        return min(LIKES, possible)
    if likes > possible:
        raise WrongUsage(
            f"--likes {likes} is too many: a user has one reaction to a post, so {users} users and {posts} posts allow"
            f" at most {possible}"
        )
    return likes


def make_plan(size: Size, seed: int) -> Plan:
    """Return the plan for a seed. Each part has its own generator, so that more likes do not change the posts."""
    drawing = _random(seed, "users")
    users = tuple(make_name(drawing, number + 1) for number in range(size.users))
    drawing = _random(seed, "posts")
    posts = tuple(
        PlannedPost(
            author=drawing.randrange(size.users),
            title=make_title(drawing) if drawing.random() < 1 / 2 else None,
            content=make_text(drawing, f"Post {number + 1}"),
        )
        for number in range(size.posts)
    )
    acts: list[PlannedReaction | PlannedSecret] = [
        *_reactions(size, _random(seed, "reactions")),
        *_secrets(size, _random(seed, "secrets")),
    ]
    _random(seed, "order").shuffle(acts)
    return Plan(users, posts, tuple(acts))


def make_name(random: Random, number: int) -> str:
    """Return a username, unique by its number; at most 19 characters for 5 digits."""
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_ANIMALS)}-{number}"


def make_text(random: Random, subject: str) -> str:
    """Return a text, unique by the subject at its start."""
    words = [_word(random) for _ in range(random.randint(FEWEST_WORDS, MOST_WORDS))]
    return f"{subject}: {' '.join(words)}"


def make_title(random: Random) -> str:
    """Return a title."""
    return f"{random.choice(_ADJECTIVES)} {random.choice(_ANIMALS)} {random.choice(_ODDITIES)}"


def _reactions(size: Size, drawing: Random) -> list[PlannedReaction]:
    pairs = drawing.sample(range(size.users * size.posts), size.likes)
    return [PlannedReaction(*divmod(pair, size.posts), drawing.choice(_MOVES)) for pair in pairs]


def _secrets(size: Size, drawing: Random) -> list[PlannedSecret]:
    return [
        PlannedSecret(
            number=number + 1,
            sender=drawing.randrange(size.users),
            text=make_text(drawing, f"Secret {number + 1}"),
            readers=drawing.randint(FEWEST_READERS, MOST_READERS),
            has_phrase=drawing.random() < 1 / 4,
        )
        for number in range(size.secrets)
    ]


def _random(seed: int, part: str) -> Random:
    return Random(f"{seed} {part}")  # noqa: S311 (must be reproducible, and is not a secret)


def _word(random: Random) -> str:
    sort: Sequence[str] = random.choice((_ADJECTIVES, _ANIMALS, _ADJECTIVES, _ANIMALS, _ODDITIES))
    return random.choice(sort)
