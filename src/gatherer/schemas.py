"""What the routes of the gatherer take and answer."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from ..accounts.auth import GivenPassword, GivenUsername, Username
from ..api.schema import Answer, ProblemDetails, QueryParameters, RequestBody
from ..errors import Problem, describe_status
from .moments import parse_moment

LOGOUT = ("", "logout")
"""Messages that log a sender out, where they are sent as ``message`` with a token of ``/authenticate``."""
LONGEST_TOKEN = 4096
LONGEST_BATCH_ID = 128
MOST_MESSAGES = 1000
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2}))?$"


def _moment(text: str) -> str:
    parse_moment(text)
    return text


MomentText = Annotated[
    str,
    StringConstraints(pattern=_MOMENT),
    AfterValidator(_moment),
    Field(json_schema_extra={"anyOf": [{"format": "date"}, {"format": "date-time"}]}),
]


class Identify(RequestBody):
    """Who the sender is."""

    message_type: Literal["IDENTIFY"]
    username: Username = Field(description="Unique without regard to case; an account, or a name to become one.")


class Authenticate(RequestBody):
    """The proof of who the sender is."""

    message_type: Literal["AUTHENTICATE"]
    username: GivenUsername
    password: GivenPassword = Field(
        description="The first one of a new name has 4 characters or more, unless the server sets another minimum."
    )


def _either(schema: dict[str, Any]) -> None:
    names = ("message", "messages")
    schema["oneOf"] = [{"required": [name]} for name in names]
    for name in names:
        del schema["properties"][name]["default"]


class Message(RequestBody):
    """One message or several, or the end of sending."""

    model_config = ConfigDict(json_schema_extra=_either)

    message_type: Literal["MESSAGE"]
    token: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)] | None = Field(
        None,
        description="What POST /authenticate gave, or an API token with the scope `gather`; without it, the one of the"
        " Authorization header counts.",
    )
    # Without a value that stands for none: a null is no message.
    message: str = Field(
        "", description='A message. With a token of POST /authenticate, `""` and `"logout"` log out instead.'
    )
    messages: list[str] = Field([], min_length=1, max_length=MOST_MESSAGES, description="Messages, in their order.")
    batch: Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_BATCH_ID)] | None = Field(
        None, description="An id of the client's own making: sent again under it, messages are stored once."
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if ("message" in self.model_fields_set) == ("messages" in self.model_fields_set):
            raise ValueError("must have either message or messages")
        return self

    @property
    def is_logout(self) -> bool:
        """Tell whether this logs a sender out."""
        return "message" in self.model_fields_set and self.message in LOGOUT

    @property
    def all_messages(self) -> list[str]:
        """The messages to be stored."""
        return self.messages if "messages" in self.model_fields_set else [self.message]


class SenderAnswer(Answer):
    """The members of every answer to a sender: a sentence for people, the status, and its standard description."""

    status_message: str
    status_code: int
    status_description: str


class Authenticated(SenderAnswer):
    """A sender who may send; the token lives for ``expires_in`` seconds."""

    token: str
    expires_in: int


class Gathered(SenderAnswer):
    """The sender's own numbers of the first and the last message; null where none was stored."""

    first_sequence: int | None
    last_sequence: int | None


class SenderProblem(ProblemDetails):
    """A refusal, with what every answer to a sender has."""

    status_message: str
    status_code: int
    status_description: str

    @classmethod
    def of(cls, problem: Problem, request_id: str, **members: Any) -> Self:
        """Return what a sender is told of a problem."""
        return super().of(problem, request_id, **outcome(problem.status, problem.detail), **members)


class AuthenticationProblem(SenderProblem):
    """A refusal to authenticate: older clients read its token before its status."""

    token: Literal[""] = ""


def outcome(status: int, message: str) -> dict[str, Any]:
    """Return the members that every answer to a sender has."""
    return {
        "status_message": message,
        "status_code": status,
        "status_description": describe_status(status),
    }


class GatheredQuery(QueryParameters):
    """Which messages to give out."""

    since: MomentText | None = Field(None, description="A day or a time: messages that arrived then or later.")
    until: MomentText | None = Field(None, description="A day or a time: messages that arrived before it.")
    username: GivenUsername | None = Field(None, description="Sender whose messages to give out, in whatever case.")


class GatheredMessage(Answer):
    """A message that was gathered; ``sequence`` counts the messages of its sender, from 1."""

    received_at: datetime
    username: str
    sequence: int
    message: str
