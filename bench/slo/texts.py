"""Texts for the echo: all of Unicode, with its planes mixed."""

import random
from bisect import bisect_right
from itertools import accumulate, chain, repeat
from json.encoder import encode_basestring
from operator import sub

MEBIBYTE = 1024 * 1024
"""Size limit of a body in bytes."""
LARGEST_ECHO = 1_000_000
"""Size limit of an echo body in bytes."""
ROOM = 512
"""Bytes reserved in a body for JSON syntax and an access token."""
LONGEST_SHORT = 200
SURROGATES = range(0xD800, 0xE000)
LAST = 0x10FFFF
STEP = 611_953
"""A prime: steps of this size visit every character once, and each plane within a few steps."""


class Texts:
    """Returns every character of Unicode except surrogates in turn, and starts over at the end."""

    def __init__(self) -> None:
        characters = [chr(number) for number in chain(range(SURROGATES.start), range(SURROGATES.stop, LAST + 1))]
        count = len(characters)
        # No Python loop, here and in `cut`: it would need seconds for a million characters.
        places = map(count.__rmod__, range(0, count * STEP, STEP))
        self._all = "".join(map(characters.__getitem__, places))
        self._large = cut(self._all, LARGEST_ECHO - ROOM)
        self._at = 0

    def short(self) -> str:
        """Return the next 0 to `LONGEST_SHORT` characters."""
        text = self._all[self._at : self._at + random.randint(0, LONGEST_SHORT)]  # noqa: S311 (only a length)
        self._at = (self._at + len(text)) % len(self._all)
        return text

    def large(self) -> str:
        """Return a text that almost fills a body; a few of them together contain all of Unicode."""
        self._large.append(self._large.pop(0))
        return self._large[-1]


def cut(text: str, most: int) -> list[str]:
    """Split a text into pieces of at most ``most`` bytes each as JSON in UTF-8, quotes included."""
    # Each encoded character has 2 quotes of its own.
    sizes = map(len, map(str.encode, map(encode_basestring, text)))
    ends = list(accumulate(map(sub, sizes, repeat(2)), initial=0))
    pieces, begin = [], 0
    while ends[-1] - ends[begin] + 2 > most:
        end = bisect_right(ends, ends[begin] + most - 2) - 1
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]]
