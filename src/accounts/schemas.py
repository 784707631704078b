"""Requests and answers of the account, session and token routes."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ..api.schema import WHOLE, Answer, RequestBody
from .auth import Scope
from .passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD

LONGEST_TOKEN = 4096

Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{3,32}$")]
NewPassword = Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
# Compared, not stored. Any form is accepted: a validation error would reveal more than "incorrect" does.
GivenUsername = Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)]
GivenPassword = Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)]


def _distinct(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) != len(scopes):
        raise ValueError("must not contain duplicates")
    return scopes


class Register(RequestBody):
    """A new account."""

    username: Username = Field(description="Unique, ignoring case.")
    password: NewPassword


class Registered(Answer):
    """The created account."""

    user_id: str
    username: str


class Login(RequestBody):
    """A username and its password."""

    username: GivenUsername
    password: GivenPassword


class Refresh(RequestBody):
    """The current refresh token of a session."""

    refresh_token: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)]


class Tokens(Answer):
    """The tokens of a session: the access token is valid for ``expires_in`` seconds."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (a type)
    expires_in: int
    refresh_token: str


class Me(Answer):
    """The caller's account; ``last_request_at`` has a precision of one minute. Times are null if there was none yet."""

    user_id: str
    username: str
    created_at: datetime
    last_login_at: datetime | None
    last_request_at: datetime | None


class ChangePassword(RequestBody):
    """A new password, and the current one as proof."""

    current: GivenPassword
    new: NewPassword


class DeleteAccount(RequestBody):
    """The current password, as proof."""

    password: GivenPassword


class SessionAnswer(Answer):
    """A session; ``current`` is true for the session of this request."""

    id: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    current: bool


class Sessions(Answer):
    """The caller's sessions, newest first."""

    sessions: list[SessionAnswer]


class CreateToken(RequestBody):
    """A new API token."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="A label that tells you the purpose of the token."
    )
    scopes: Annotated[list[Annotated[Scope, Field(strict=False)]], AfterValidator(_distinct)] = Field(
        min_length=1,
        max_length=len(Scope),
        description="The permissions of the token.",
        json_schema_extra={"uniqueItems": True},
    )
    expires_in_days: Annotated[int, Field(ge=1, le=3650), WHOLE] | None = Field(
        None, description="Days until the token expires. Default: it does not expire."
    )


class TokenAnswer(Answer):
    """An API token, without the token itself."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenCreated(TokenAnswer):
    """The created API token; ``token`` is shown only once."""

    token: str


class TokenList(Answer):
    """The caller's API tokens, newest first."""

    tokens: list[TokenAnswer]
