"""Texts for the echo: all of Unicode, its planes mixed."""

import random
from bisect import bisect_right
from itertools import accumulate, chain, repeat
from json.encoder import encode_basestring
from operator import sub

MEBIBYTE = 1024 * 1024
"""The limit of a body, in bytes."""
LARGEST_ECHO = 1_000_000
"""The limit of a body of the echo, in bytes."""
ROOM = 512
"""Bytes of a body for what is in it besides the text: an access token at the most."""
LONGEST_SHORT = 200
SURROGATES = range(0xD800, 0xE000)
LAST = 0x10FFFF
STEP = 611_953
"""A prime, so that steps of this size come by every character once: by each plane within a few."""


class Texts:
    """Hands out every character of Unicode (but surrogates, which are none), and begins anew when all were there."""

    def __init__(self) -> None:
        characters = [chr(number) for number in chain(range(SURROGATES.start), range(SURROGATES.stop, LAST + 1))]
        count = len(characters)
        # No loop of Python's own, here and in `cut`: over a million characters it takes seconds.
        places = map(count.__rmod__, range(0, count * STEP, STEP))
        self._all = "".join(map(characters.__getitem__, places))
        self._large = cut(self._all, LARGEST_ECHO - ROOM)
        self._at = 0

    def short(self) -> str:
        """Return the next few characters: none, one, or up to `LONGEST_SHORT`."""
        text = self._all[self._at : self._at + random.randint(0, LONGEST_SHORT)]  # noqa: S311 (a length guards nothing)
        self._at = (self._at + len(text)) % len(self._all)
        return text

    def large(self) -> str:
        """Return a text that almost fills a body; a handful of them have all of Unicode."""
        self._large.append(self._large.pop(0))
        return self._large[-1]


def cut(text: str, most: int) -> list[str]:
    """Cut a text into pieces of which each takes at most so many bytes as JSON in UTF-8, quotes included."""
    # Each has the two quotes that the whole has but once.
    sizes = map(len, map(str.encode, map(encode_basestring, text)))
    ends = list(accumulate(map(sub, sizes, repeat(2)), initial=0))
    pieces, begin = [], 0
    while ends[-1] - ends[begin] + 2 > most:
        end = bisect_right(ends, ends[begin] + most - 2) - 1
        pieces.append(text[begin:end])
        begin = end
    return [*pieces, text[begin:]]
