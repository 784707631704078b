"""Names and texts that a seed makes up."""

from collections.abc import Sequence
from random import Random

LONGEST_TITLE = 200
FEWEST, MOST = 3, 40
"""Words of a text."""

_ADJECTIVES = (
    *("amber", "brisk", "calm", "dusty", "early", "faint", "grey", "hazy", "icy", "jolly", "keen", "lazy", "mild"),
    *("neat", "odd", "pale", "quiet", "rusty", "sandy", "tame", "urban", "vivid", "warm", "young", "zesty"),
)
_ANIMALS = (
    *("adder", "bison", "crane", "dingo", "egret", "finch", "gecko", "heron", "ibis", "jackal", "koala", "lynx"),
    *("marten", "newt", "otter", "panda", "quail", "raven", "stoat", "tapir", "urchin", "viper", "wombat", "zebra"),
)
# What goes wrong most easily on the way: quotes, markup, escapes, line breaks, and the far ends of Unicode.
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


def make_name(random: Random, number: int) -> str:
    """Return the name of a user, which its number makes the only one; at most 19 characters for five digits."""
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_ANIMALS)}-{number}"


def make_text(random: Random, subject: str) -> str:
    """Return a text that begins with its subject, which makes it the only one."""
    words = [_word(random) for _ in range(random.randint(FEWEST, MOST))]
    return f"{subject}: {' '.join(words)}"


def make_title(random: Random) -> str:
    """Return a title."""
    return f"{random.choice(_ADJECTIVES)} {random.choice(_ANIMALS)} {random.choice(_ODDITIES)}"


def _word(random: Random) -> str:
    sort: Sequence[str] = random.choice((_ADJECTIVES, _ANIMALS, _ADJECTIVES, _ANIMALS, _ODDITIES))
    return random.choice(sort)
