"""Requests and answers of the routes for operators."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from ..api.schema import DIGITS, WHOLE, Answer, QueryParameters, RequestBody, example
from .invitations import DEFAULT_LIFE, LONGEST_LIFE, MOST_USES

MOST_USERS = 200
"""Users on one page."""
DEFAULT_USERS = 50

Role = Literal["member", "operator"]


class UserQuery(QueryParameters):
    """A page of users."""

    after: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")] | None = Field(
        None, description="The `next` of the previous page."
    )
    limit: Annotated[int, Field(ge=1, le=MOST_USERS), DIGITS] = Field(
        DEFAULT_USERS, description="Maximum number of users."
    )


class UserAnswer(Answer):
    """A user, as operators see it."""

    user_id: str = Field(description="32 hexadecimal digits, the permanent id of the account.")
    username: str = Field(description="The name as registered.")
    created_at: datetime = Field(description="When the account was created.")
    last_login_at: datetime | None = Field(description="When the last session started; null if there was none.")
    last_request_at: datetime | None = Field(
        description="When a token of the account was last used; null if none was. It may lag by a minute."
    )
    operator: bool = Field(description="Whether the user is an operator.")
    disabled: bool = Field(description="Whether the password and all tokens of the account are rejected.")


class Users(Answer):
    """A page of users, oldest first."""

    users: list[UserAnswer] = Field(description="The users.")
    next: str | None = Field(description="The `after` of the next page; null on the last one.")


class ChangeUser(RequestBody):
    """Changes of a user."""

    model_config = example({"disabled": True})

    disabled: bool | None = Field(
        None, description="Whether to reject the password and all tokens of the account. Default: no change."
    )
    operator: bool | None = Field(None, description="Whether to make the user an operator. Default: no change.")


class CreateInvitation(RequestBody):
    """A new invitation."""

    model_config = example({"role": "member", "uses": 5, "expires_in_days": 14})

    role: Role = Field("member", description="The role of the accounts that are created with the invitation.")
    uses: Annotated[int, Field(ge=1, le=MOST_USES), WHOLE] = Field(
        1, description="Number of accounts that can be created with the invitation."
    )
    expires_in_days: Annotated[int, Field(ge=1, le=LONGEST_LIFE.days), WHOLE] = Field(
        DEFAULT_LIFE.days, description="Days until the invitation expires."
    )


class InvitationCreated(Answer):
    """The created invitation; ``invitation`` and ``url`` are shown only once."""

    id: str = Field(description="32 hexadecimal digits, used to delete the invitation.")
    invitation: str = Field(description="The invitation: 46 characters. The server does not store it.")
    url: str = Field(description="The link to the page on which the invited person registers.")
    role: Role = Field(description="The role of the accounts that are created with the invitation.")
    expires_at: datetime = Field(description="When the invitation expires.")
    uses_left: int = Field(description="Number of accounts that can still be created with the invitation.")


class InvitationAnswer(Answer):
    """An invitation, without its text."""

    id: str = Field(description="32 hexadecimal digits, used to delete the invitation.")
    role: Role = Field(description="The role of the accounts that are created with the invitation.")
    created_at: datetime = Field(description="When the invitation was created.")
    created_by: str | None = Field(
        description="The username of the operator who created the invitation; null if it was created on the command"
        " line."
    )
    expires_at: datetime = Field(description="When the invitation expires.")
    uses_left: int = Field(description="Number of accounts that can still be created with the invitation.")


class Invitations(Answer):
    """The invitations that can still be used, newest first."""

    invitations: list[InvitationAnswer] = Field(description="The invitations.")
