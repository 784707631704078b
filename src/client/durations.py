"""Spans of time, as people type and read them."""

import re
from datetime import UTC, datetime

from .errors import WrongUsage

_TTL = re.compile(
    "(?:(?P<days>[0-9]{1,6})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,6})m)?(?:(?P<seconds>[0-9]{1,9})s)?"
)
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def parse_ttl(text: str) -> dict[str, int]:
    """Read a time to live such as ``90m`` or ``1d12h`` into the API's form. Raises `WrongUsage`."""
    found = _TTL.fullmatch("".join(text.split()).lower())
    parts = {unit: int(number) for unit, number in found.groupdict().items() if number} if found else {}
    if not parts:
        raise WrongUsage("a time to live is written with units, the longest first: 2h, 90m, 1d12h, 45s")
    return parts


def in_words(seconds: float) -> str:
    """Write a span for a person: rounded, in its two largest units."""
    # Rounding may make a full unit of what was just under one, and then rounds once more.
    for _ in range(2):
        largest = next((place for place, (_, size) in enumerate(_UNITS) if seconds >= size), len(_UNITS) - 1)
        shown = _UNITS[largest : largest + 2]
        seconds = round(seconds / shown[-1][1]) * shown[-1][1]
    words, left = [], seconds
    for unit, size in shown:
        count, left = divmod(left, size)
        if count:
            words.append(f"{count:.0f} {unit}{'' if count == 1 else 's'}")
    return " ".join(words) or "0 seconds"


def write_moment(moment: datetime) -> str:
    """Write a time for a person: to the second, in their own zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def write_minute(moment: datetime) -> str:
    """Write a time for a table: to the minute, in one's own zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def write_future(moment: datetime) -> str:
    """Write a time to come, and how far off it is."""
    left = (moment - datetime.now(UTC)).total_seconds()
    return f"{write_moment(moment)} (in {in_words(left)})" if left > 0 else f"{write_moment(moment)} (over)"
