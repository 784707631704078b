"""Requests and answers of the secret, message and receipt routes."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from ..api.schema import WHOLE, Answer, RequestBody, TimeToLive
from .items import ItemState

MOST_OPENS = 100
MOST_ATTEMPTS = 100
LONGEST_PHRASE = 1024

NewPhrase = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_PHRASE)]


class CreateSecret(RequestBody):
    """A new secret."""

    secret: Annotated[str, StringConstraints(min_length=1)] = Field(description="The text.")
    phrase: NewPhrase | None = Field(None, description="A password that the reader needs in addition to the link.")
    ttl: TimeToLive | None = Field(
        None, description="Time until the secret expires, greater than zero and at most the server's limit."
    )
    max_opens: Annotated[int, WHOLE] = Field(
        1, ge=1, le=MOST_OPENS, description="Number of times that the secret can be opened."
    )
    max_attempts: Annotated[int, WHOLE] = Field(
        5, ge=1, le=MOST_ATTEMPTS, description="Number of wrong phrases that destroys the secret."
    )


class SecretCreated(Answer):
    """The created secret. Send ``url`` to the reader and keep ``receipt_key``."""

    secret_key: str
    receipt_key: str
    expires_at: datetime
    url: str


class OpenSecret(RequestBody):
    """The phrase, if the secret has one; the body is optional."""

    phrase: Annotated[str, StringConstraints(max_length=LONGEST_PHRASE)] | None = Field(
        None, description="The phrase, if the secret has one."
    )


class SecretOpened(Answer):
    """The opened secret."""

    secret: str
    opens_left: int


class SecretStatus(Answer):
    """The status of a secret that can be opened, without its text."""

    phrase_required: bool
    opens_left: int
    created_at: datetime
    expires_at: datetime


class ReceiptAnswer(Answer):
    """The state of an item; ``opens_left`` is null for messages, ``failed_attempts`` once the record is deleted."""

    state: ItemState
    created_at: datetime
    expires_at: datetime
    opened_at: datetime | None
    opens_left: int | None
    failed_attempts: int | None


class MessageForm(RequestBody):
    """A new message, as a web form sends it."""

    message: Annotated[str, StringConstraints(min_length=1)] = Field(description="The text.")


class CreateMessage(MessageForm):
    """A new message."""

    ttl: TimeToLive | None = Field(
        None, description="Time until the message expires, greater than zero and at most the server's limit."
    )


class MessageCreated(Answer):
    """The created message. Send ``url`` to the readers and keep ``receipt_key``."""

    url: str
    receipt_key: str
    expires_at: datetime


class MessageAnswer(Answer):
    """A message."""

    message: str
    created_at: datetime
    expires_at: datetime


class Deleted(Answer):
    """The number of secrets and messages deleted."""

    deleted: int
