"""Requests and answers of the post routes."""

from datetime import date, datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from ..api.schema import DIGITS, Answer, QueryParameters, RequestBody, TimeToLive, example
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

    model_config = example({"title": "Lost and found", "content": "Whose blue umbrella is this?", "ttl": {"days": 30}})

    title: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_TITLE)] | None = Field(
        None, description="A title."
    )
    content: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_CONTENT)] = Field(
        description="The text, returned as sent."
    )
    ttl: TimeToLive | None = Field(
        None, description="Time until the post expires, up to 3650 days. Default: it does not expire."
    )


class PostAnswer(Answer):
    """A post; ``mine`` is the caller's reaction."""

    id: str = Field(description="32 hexadecimal digits. Later posts have higher ids.")
    author: str = Field(description="The username of the author.")
    title: str | None = Field(description="The title; null if there is none.")
    content: str = Field(description="The text.")
    created_at: datetime = Field(description="When the post was published.")
    expires_at: datetime | None = Field(description="When the post expires; null if it does not.")
    likes: int = Field(description="Number of users who like the post.")
    dislikes: int = Field(description="Number of users who dislike the post.")
    mine: Reaction | None = Field(description="Your own reaction; null if there is none.")


class FeedQuery(QueryParameters):
    """Selects the posts to list."""

    limit: Annotated[int, Field(ge=1, le=LARGEST_PAGE), DIGITS] = Field(
        20, description="Posts per page.", examples=[10]
    )
    cursor: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="`next_cursor` of the previous page."
    )
    author: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Lists only the posts of this user."
    )


class Feed(Answer):
    """A page of posts, newest first; ``next_cursor`` is null on the last page."""

    posts: list[PostAnswer] = Field(description="The posts of this page.")
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last page.")


class ReactionsAnswer(Answer):
    """The reactions to a post; ``mine`` is the caller's."""

    likes: int = Field(description="Number of users who like the post.")
    dislikes: int = Field(description="Number of users who dislike the post.")
    mine: Reaction | None = Field(description="Your own reaction; null if there is none.")


class AnalyticsQuery(QueryParameters):
    """The first and last day."""

    first: DayText = Field(alias="from", description="First day (UTC).", examples=["2026-03-01"])
    last: DayText = Field(
        alias="to", description="Last day (UTC), at most 365 days after the first.", examples=["2026-03-31"]
    )


class DayAnswer(Answer):
    """Posts and reactions of one day, not counting those deleted since."""

    date: Annotated[date, Field(description="The day, in UTC.")]
    posts: int = Field(description="Number of posts published that day.")
    likes: int = Field(description="Number of likes that day, of any post.")
    dislikes: int = Field(description="Number of dislikes that day, of any post.")


class AnalyticsAnswer(Answer):
    """Every requested day, in order."""

    days: list[DayAnswer] = Field(description="One entry per day, including days without activity.")
