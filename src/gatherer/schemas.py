"""Requests and answers of the gatherer routes."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from ..accounts.schemas import GivenPassword, GivenUsername, Username
from ..api.schema import Answer, ProblemDetails, QueryParameters, RequestBody, example
from ..api.times import TimeText
from ..errors import Problem, describe_status

LOGOUT = ("", "logout")
"""Messages that log a sender out, if sent as ``message`` with a token from ``/authenticate``."""
LONGEST_TOKEN = 4096
LONGEST_BATCH_ID = 128
MOST_MESSAGES = 1000


class Identify(RequestBody):
    """The name of the sender."""

    model_config = example({"message_type": "IDENTIFY", "username": "web-1"})

    message_type: Literal["IDENTIFY"] = Field(description="The type of the request.")
    username: Username = Field(
        description="The username of an account, or a free name for a new one. Unique, ignoring case."
    )


class Authenticate(RequestBody):
    """The credentials of the sender."""

    model_config = example({"message_type": "AUTHENTICATE", "username": "web-1", "password": "a password for web-1"})

    message_type: Literal["AUTHENTICATE"] = Field(description="The type of the request.")
    username: GivenUsername = Field(description="The name used in /identify, ignoring case.")
    password: GivenPassword = Field(
        description="The first password of a name has at least 4 characters, unless the server sets another minimum."
    )


def _one_of_two(schema: dict[str, Any]) -> None:
    names = ("message", "messages")
    schema["examples"] = [
        {"message_type": "MESSAGE", "messages": ["disk 91 % full", "disk 92 % full"], "batch": "web-1-0001"}
    ]
    schema["oneOf"] = [{"required": [name]} for name in names]
    for name in names:
        del schema["properties"][name]["default"]


class Message(RequestBody):
    """One message, several messages, or a logout."""

    model_config = ConfigDict(json_schema_extra=_one_of_two)

    message_type: Literal["MESSAGE"] = Field(description="The type of the request.")
    token: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)] | None = Field(
        None,
        description="The token from POST /authenticate, or an API token with the scope `gather`. Default: the one in"
        " the Authorization header.",
    )
    # Not nullable: a null is not a message.
    message: str = Field(
        "", description='A message. With a token from POST /authenticate, `""` and `"logout"` log out instead.'
    )
    messages: list[str] = Field([], min_length=1, max_length=MOST_MESSAGES, description="Messages, in order.")
    batch: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_BATCH_ID)] | None = Field(
        None, description="An id chosen by the client. Messages that are sent again under the same id are stored once."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("message" in self.model_fields_set) == ("messages" in self.model_fields_set):
            raise ValueError("must have either message or messages, not both")
        return self

    @property
    def is_logout(self) -> bool:
        """Whether this logs the sender out."""
        return "message" in self.model_fields_set and self.message in LOGOUT

    @property
    def all_messages(self) -> list[str]:
        """The messages to store."""
        return self.messages if "messages" in self.model_fields_set else [self.message]


class SenderAnswer(Answer):
    """The members of every response to a sender: a text for people, the status, and its standard description."""

    status_message: str = Field(description="A text for people.")
    status_code: int = Field(description="The HTTP status.")
    status_description: str = Field(description="The standard description of the status.")


class Authenticated(SenderAnswer):
    """The token of a sender, valid for ``expires_in`` seconds."""

    token: str = Field(description="The token of the sender.")
    expires_in: int = Field(description="Lifetime of the token in seconds.")


class Gathered(SenderAnswer):
    """The sender's own sequence numbers of the first and last message stored; null if none was stored."""

    first_sequence: int | None = Field(
        description="Sequence number of the first message stored; null if none was stored."
    )
    last_sequence: int | None = Field(
        description="Sequence number of the last message stored; null if none was stored."
    )


class SenderProblem(ProblemDetails):
    """An error, with the members of every response to a sender."""

    status_message: str = Field(description="The same as `detail`.")
    status_code: int = Field(description="The same as `status`.")
    status_description: str = Field(description="The standard description of the status.")

    @classmethod
    def of(cls, problem: Problem, request_id: str, **members: Any) -> Self:
        """Return the details of a problem for a sender."""
        return super().of(problem, request_id, **outcome(problem.status, problem.detail), **members)


class AuthenticationProblem(SenderProblem):
    """A failed authentication; older clients read ``token`` before the status."""

    token: Literal[""] = Field("", description="Empty, for older clients, which read it before the status.")


def outcome(status: int, message: str) -> dict[str, Any]:
    """Return the members of every answer to a sender."""
    return {
        "status_message": message,
        "status_code": status,
        "status_description": describe_status(status),
    }


class GatheredQuery(QueryParameters):
    """Selects the messages to export."""

    since: TimeText | None = Field(
        None, description="A date or a time: messages received at or after it.", examples=["2026-03-01"]
    )
    until: TimeText | None = Field(None, description="A date or a time: messages received before it.")
    username: GivenUsername | None = Field(None, description="The sender's username, ignoring case.")


class GatheredMessage(Answer):
    """A gathered message; ``sequence`` counts the messages of its sender from 1."""

    received_at: datetime = Field(description="When the server received the message.")
    username: str = Field(description="The name of the sender.")
    sequence: int = Field(description="Number of the message among those of its sender, from 1.")
    message: str = Field(description="The text.")
