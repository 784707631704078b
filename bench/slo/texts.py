"""Texts for the echo: all of Unicode, its planes mixed."""

import json
import random

MEBIBYTE = 1024 * 1024
"""The limit of a body."""
ROOM = 512
"""Bytes of a body for what is in it besides the text: an access token at the most."""
LONGEST_SHORT = 200
SURROGATES = range(0xD800, 0xE000)
LAST = 0x10FFFF
STEP = 611_953
"""A prime, so that steps of this size come by every character once: by each plane within a few."""
_ASCII_SIZES = [len(json.dumps(chr(number))) - 2 for number in range(0x7F)] + [1]
"""What JSON escapes is ASCII; it need not escape DEL."""


class Texts:
    """Hands out every character of Unicode (but surrogates, which are none), and begins anew when all were there."""

    def __init__(self) -> None:
        characters = [chr(number) for number in range(LAST + 1) if number not in SURROGATES]
        self._all = "".join(characters[index * STEP % len(characters)] for index in range(len(characters)))
        self._large = cut(self._all, MEBIBYTE - ROOM)
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
    pieces, begin, size = [], 0, 2
    for end, character in enumerate(text):
        taken = _ASCII_SIZES[ord(character)] if character.isascii() else len(character.encode())
        if size + taken > most:
            pieces.append(text[begin:end])
            begin, size = end, 2
        size += taken
    return [*pieces, text[begin:]]
