"""Days and times as people and programs give them."""

from datetime import UTC, datetime

FIRST_MOMENT, LAST_MOMENT = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def parse_moment(text: str) -> datetime:
    """Read a day (its beginning in UTC), or a time with its zone, as in RFC 3339. Raises `ValueError`."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a day such as 2026-03-01 or a time such as 2026-03-01T09:30:00Z") from None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        # In UTC, this is before the first or after the last day of the calendar.
        return FIRST_MOMENT if moment.year == 1 else LAST_MOMENT
