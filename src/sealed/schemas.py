"""What the routes of secrets and receipts take and answer."""

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from ..api.schema import Answer, RequestBody
from .items import State

MOST_OPENS = 100
MOST_ATTEMPTS = 100
LONGEST_PHRASE = 1024

NewPhrase = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PHRASE)]
# Documented as a minimum and refused by the rule on the sum, whose words name the limit.
Count = Annotated[int, Field(json_schema_extra={"minimum": 0})]


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


class CreateSecret(RequestBody):
    """A secret to seal."""

    secret: Annotated[str, StringConstraints(min_length=1)] = Field(description="The text, as it shall be opened.")
    phrase: NewPhrase | None = Field(None, description="What the reader must know besides the link.")
    ttl: TimeToLive | None = Field(
        None, description="How long the secret waits to be opened; more than zero and at most the server's limit."
    )
    max_opens: int = Field(1, ge=1, le=MOST_OPENS, description="How often it may be opened.")
    max_attempts: int = Field(5, ge=1, le=MOST_ATTEMPTS, description="How many wrong phrases destroy it.")


class SecretCreated(Answer):
    """Where the secret waits. Give ``url`` to the reader and keep ``receipt_key``."""

    secret_key: str
    receipt_key: str
    expires_at: datetime
    url: str


class OpenSecret(RequestBody):
    """What it takes to open a secret; the whole body may be left out."""

    phrase: Annotated[str, StringConstraints(max_length=LONGEST_PHRASE)] | None = Field(
        None, description="The phrase, where the secret has one."
    )


class SecretOpened(Answer):
    """The secret."""

    secret: str
    opens_left: int


class SecretStatus(Answer):
    """What may be known of a waiting secret without opening it."""

    phrase_required: bool
    opens_left: int
    created_at: datetime
    expires_at: datetime


class ReceiptAnswer(Answer):
    """What has become of a secret; ``failed_attempts`` is null once its record is gone."""

    state: State
    created_at: datetime
    expires_at: datetime
    opened_at: datetime | None
    opens_left: int
    failed_attempts: int | None
