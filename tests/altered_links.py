"""Links as other programs change them on the way: the cases that client, API and page all read."""

from collections.abc import Callable
from dataclasses import dataclass

AROUND = (
    *(".", ")", ">", ",", "%20", " ", "\u00a0", "%C2%A0", "\u200b", "%E2%80%8B", "?utm_source=x", "&utm=x", "/"),
    *("%2520", "%3Futm=x", ":~:text=word", "#:~:text=word", "\u200b.", ">,", "\u2060\ufeff"),
)
"""Follows a key."""
INSIDE = ("%20", "%0A", "%0D%0A", "%C2%AD", "%E2%80%8B", " ", "\n", "\u00ad", "\u200b", "%25%30%41")
"""Breaks a key."""
SEPARATORS = ("#", "%23", "/#", "/%23", "?utm_source=x#", "%2523")
"""Precedes the fragment of a link to a page."""


@dataclass(frozen=True)
class Altered:
    """A way to change a key; ``name`` identifies the test."""

    name: str
    change: Callable[[str], str]

    def __str__(self) -> str:
        return ascii(self.name)


def _after(text: str) -> Altered:
    return Altered(f"KEY{text}", lambda key: key + text)


def _inside(text: str) -> Altered:
    return Altered(f"KE{text}Y", lambda key: f"{key[:20]}{text}{key[20:]}")


ALTERED = (*map(_after, AROUND), *map(_inside, INSIDE))
"""Changes to a key in a link, in a path or in a fragment."""


def sent(link: str) -> str:
    """Return a link as a client of HTTP sends it, which must encode what a URL cannot contain."""
    return "".join(character if "\x20" < character < "\x7f" else _encoded(character) for character in link)


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode())
