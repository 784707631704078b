"""Finds the key in a link or text to which other programs have added something.

Mail programs, chats and trackers append punctuation, parameters and invisible characters to links, wrap lines inside
them, and percent-encode them. Server and client share this module; `src/pages/static/links.js` does the same.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import unquote

_RUN = re.compile(r"[A-Za-z0-9_-]+")
_GAPS = frozenset(("Cc", "Cf", "Zl", "Zp", "Zs"))
"""Unicode categories of white space and invisible characters."""


def find_key(text: str, length: int, is_valid: Callable[[str], object]) -> str | None:
    """Return the first valid run of exactly ``length`` key characters; None if there is none.

    A gap ends a run. If that leaves no valid run, gaps are skipped, because the key may have been wrapped.
    """
    if len(text) == length and is_valid(text):
        return text  # unaltered, as nearly always
    decoded = _decode(text)
    for gap in (" ", ""):
        for run in _RUN.findall(_replace_gaps(decoded, gap)):
            if len(run) == length and is_valid(run):
                return str(run)
    return None


def find_candidates(text: str, prefix: str, length: int) -> Iterator[str]:
    """Yield each sequence of ``length`` key characters that begins with a prefix, for a key that contains a check."""
    sequence = re.compile(rf"(?=({re.escape(prefix)}[A-Za-z0-9_-]{{{length - len(prefix)}}}))")
    for match in sequence.finditer(_replace_gaps(_decode(text), "")):
        yield match[1]


def _decode(text: str) -> str:
    # Twice, because a redirect service may encode a link that is already encoded.
    return unquote(unquote(text))


def _replace_gaps(text: str, gap: str) -> str:
    return "".join(gap if unicodedata.category(character) in _GAPS else character for character in text)
