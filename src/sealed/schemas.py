"""What the routes of secrets, messages and receipts take and answer."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from ..api.schema import WHOLE, Answer, RequestBody, TimeToLive
from .items import State

MOST_OPENS = 100
MOST_ATTEMPTS = 100
LONGEST_PHRASE = 1024

NewPhrase = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PHRASE)]


class CreateSecret(RequestBody):
    """A secret to seal."""

    secret: Annotated[str, StringConstraints(min_length=1)] = Field(description="The text, as it shall be opened.")
    phrase: NewPhrase | None = Field(None, description="What the reader must know besides the link.")
    ttl: TimeToLive | None = Field(
        None, description="How long the secret waits to be opened; more than zero and at most the server's limit."
    )
    max_opens: Annotated[int, WHOLE] = Field(1, ge=1, le=MOST_OPENS, description="How often it may be opened.")
    max_attempts: Annotated[int, WHOLE] = Field(
        5, ge=1, le=MOST_ATTEMPTS, description="How many wrong phrases destroy it."
    )


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
    """What has become of an item; ``opens_left`` is null for a message, ``failed_attempts`` once its record is gone."""

    state: State
    created_at: datetime
    expires_at: datetime
    opened_at: datetime | None
    opens_left: int | None
    failed_attempts: int | None


class MessageForm(RequestBody):
    """A message to seal, as a form sends it."""

    message: Annotated[str, StringConstraints(min_length=1)] = Field(description="The text, as it shall be read.")


class CreateMessage(MessageForm):
    """A message to seal."""

    ttl: TimeToLive | None = Field(
        None, description="How long the message can be read; more than zero and at most the server's limit."
    )


class MessageCreated(Answer):
    """Where the message waits. Give ``url`` to the readers and keep ``receipt_key``."""

    url: str
    receipt_key: str
    expires_at: datetime


class MessageAnswer(Answer):
    """A message."""

    message: str
    created_at: datetime
    expires_at: datetime


class Deleted(Answer):
    """How many records were removed, of secrets and messages."""

    deleted: int
