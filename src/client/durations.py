"""Durations and times, as users type and read them."""

import re
from datetime import UTC, datetime

from .errors import WrongUsage

_TTL = re.compile(
    "(?:(?P<days>[0-9]{1,6})d)?(?:(?P<hours>[0-9]{1,6})h)?(?:(?P<minutes>[0-9]{1,6})m)?(?:(?P<seconds>[0-9]{1,9})s)?"
)
_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))


def parse_ttl(text: str) -> dict[str, int]:
    """Parse a duration such as ``90m`` or ``1d12h`` into the API's form. Raises `WrongUsage`."""
    found = _TTL.fullmatch("".join(text.split()).lower())
    parts = {unit: int(number) for unit, number in found.groupdict().items() if number} if found else {}
    if not parts:
        raise WrongUsage("a duration needs units, the longest first: 2h, 90m, 1d12h, 45s")
    return parts


def in_words(seconds: float) -> str:
    """Return a duration in words, rounded to its two largest units."""
    # Rounding may carry into a larger unit; then round again.
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
    """Return a local time to the second, with its zone."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def write_minute(moment: datetime) -> str:
    """Return a local time to the minute, for tables."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def write_future(moment: datetime) -> str:
    """Return a local time and the duration until then."""
    left = (moment - datetime.now(UTC)).total_seconds()
    return f"{write_moment(moment)} (in {in_words(left)})" if left > 0 else f"{write_moment(moment)} (past)"
