"""A span of time as requests give it."""

from datetime import timedelta
from typing import Annotated

from pydantic import Field

from .schema import WHOLE, RequestBody

# Documented as a minimum and refused by the rule on the sum, whose words name the limit.
Count = Annotated[int, Field(json_schema_extra={"minimum": 0}), WHOLE]


class TimeToLive(RequestBody):
    """A span of time: the sum of its parts."""

    days: Count = 0
    hours: Count = 0
    minutes: Count = 0
    seconds: Count = 0

    @property
    def span(self) -> timedelta:
        """The sum: `timedelta.max` for anything longer, and `timedelta.min` where a part is negative."""
        if min(self.days, self.hours, self.minutes, self.seconds) < 0:
            return timedelta.min
        seconds = ((self.days * 24 + self.hours) * 60 + self.minutes) * 60 + self.seconds
        return timedelta(seconds=min(seconds, timedelta.max // timedelta(seconds=1)))
