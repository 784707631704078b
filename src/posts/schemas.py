"""Requests and answers of the post routes."""

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
        raise ValueError("must be an existing date in the form YYYY-MM-DD") from None
    return text


DayText = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    AfterValidator(_day),
    Field(json_schema_extra={"format": "date"}),
]


class CreatePost(RequestBody):
    """A new post."""

    title: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TITLE)] | None = None
    content: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CONTENT)]
    ttl: TimeToLive | None = Field(
        None, description="Time until the post expires, up to 3650 days. Default: it does not expire."
    )


class PostAnswer(Answer):
    """A post; ``mine`` is the caller's reaction."""

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
    """Selects the posts to list."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE), DIGITS] = Field(20, description="Posts per page.")
    cursor: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="`next_cursor` of the previous page."
    )
    author: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Lists only the posts of this user."
    )


class Feed(Answer):
    """A page of posts, newest first; ``next_cursor`` is null on the last page."""

    posts: list[PostAnswer]
    next_cursor: str | None


class ReactionsAnswer(Answer):
    """The reactions to a post; ``mine`` is the caller's."""

    likes: int
    dislikes: int
    mine: Reaction | None


class AnalyticsQuery(QueryParameters):
    """The first and last day."""

    first: DayText = Field(alias="from", description="First day (UTC).")
    last: DayText = Field(alias="to", description="Last day (UTC), at most 365 days after the first.")


class DayAnswer(Answer):
    """Posts and reactions of one day, not counting those deleted since."""

    date: date
    posts: int
    likes: int
    dislikes: int


class AnalyticsAnswer(Answer):
    """Every requested day, in order."""

    days: list[DayAnswer]
