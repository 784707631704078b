"""The present time, as MongoDB keeps it."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the present time in UTC, in the milliseconds that MongoDB keeps."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)
