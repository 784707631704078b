"""Limits on the time to live."""

from datetime import timedelta

from ..errors import FieldError, Malformed


def checked_lifetime(ttl: timedelta, limit: timedelta) -> timedelta:
    """Return a time to live if it is within its limit. Raises `Malformed` for the field ``ttl``, naming the limit."""
    if not timedelta(0) < ttl <= limit:
        reason = f"must be greater than zero and at most {in_words(limit)}, without negative parts"
        raise Malformed(errors=(FieldError("ttl", reason),))
    return ttl


def in_words(span: timedelta) -> str:
    """Return a duration in words, such as ``7 days`` or ``1 hour, 30 minutes``."""
    minutes, seconds = divmod(int(span.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = {"day": days, "hour": hours, "minute": minutes, "second": seconds}
    return ", ".join(f"{count} {unit}{'s' * (count != 1)}" for unit, count in parts.items() if count)
