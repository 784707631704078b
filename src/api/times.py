"""Times in queries and in options of commands."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?$"

EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def parse_time(text: str) -> datetime:
    """Read a day (its beginning in UTC) or a time with its zone, as in RFC 3339. Raises `ValueError`."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a day such as 2026-03-01 or a time such as 2026-03-01T09:30:00Z") from None
    if time.tzinfo is None:
        return time.replace(tzinfo=UTC)
    try:
        return time.astimezone(UTC)
    except OverflowError:
        # In UTC, this is before the first or after the last day of the calendar.
        return EARLIEST if time.year == 1 else LATEST


def _check_time(text: str) -> str:
    parse_time(text)
    return text


TimeText = Annotated[
    str,
    StringConstraints(pattern=_TIME),
    AfterValidator(_check_time),
    Field(json_schema_extra={"anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]


def in_milliseconds(moment: datetime) -> str:
    """Write a time in UTC at a fixed length, so that sorting by text sorts by time."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
