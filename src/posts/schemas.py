"""What the routes of posts take and answer."""

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from ..api.schema import DIGITS, Answer, QueryParameters, RequestBody, TimeToLive
from .reactions import Reaction

LONGEST_TITLE, LONGEST_CONTENT = 200, 10_000
LARGEST_PAGE = 100


def _day(text: str) -> str:
    try:
        date.fromisoformat(text)
    except ValueError:
        raise ValueError("must be a day of the calendar, as YYYY-MM-DD") from None
    return text


DayText = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_day),
    Field(json_schema_extra={"format": "date"}),
]


class CreatePost(RequestBody):
    """A post to publish."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TITLE)] | None = None
    content: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CONTENT)]
    ttl: TimeToLive | None = Field(
        None, description="How long it can be read, up to 3650 days; without it, until it is deleted."
    )


class PostAnswer(Answer):
    """A post; ``mine`` is what the caller has made of it."""

    id: str
    author: str
    title: str | None
    content: str
    created_at: datetime
    expires_at: datetime | None
    likes: int
    dislikes: int
    mine: Reaction | None


class FeedQuery(QueryParameters):
    """Which posts to list."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE), DIGITS] = Field(20, description="How many posts a page has.")
    cursor: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="`next_cursor` of the page before."
    )
    author: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Username whose posts to list; without it, everybody's."
    )


class Feed(Answer):
    """A page of posts, newest first; ``next_cursor`` is null on the last page."""

    posts: list[PostAnswer]
    next_cursor: str | None


class ReactionsAnswer(Answer):
    """The counts of a post, and what the caller has made of it."""

    likes: int
    dislikes: int
    mine: Reaction | None


class AnalyticsQuery(QueryParameters):
    """The first and the last day."""

    first: DayText = Field(alias="from", description="First day (UTC).")
    last: DayText = Field(alias="to", description="Last day (UTC), at most 365 days after the first.")


class DayAnswer(Answer):
    """What one day has brought, of what is still there."""

    date: date
    posts: int
    likes: int
    dislikes: int


class AnalyticsAnswer(Answer):
    """Every day that was asked for, in order."""

    days: list[DayAnswer]
