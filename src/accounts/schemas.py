"""What the routes of accounts take and answer."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ..api.schema import WHOLE, Answer, RequestBody
from .caller import Scope
from .passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD

LONGEST_TOKEN = 4096

Username = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{3,32}$")]
NewPassword = Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
# What is compared and not kept: of any form, because a form error would tell more than "incorrect" does.
GivenUsername = Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)]
GivenPassword = Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)]


def _distinct(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) != len(scopes):
        raise ValueError("must not name a scope twice")
    return scopes


class Register(RequestBody):
    """An account to be."""

    username: Username = Field(description="Unique without regard to case.")
    password: NewPassword


class Registered(Answer):
    """A new account."""

    user_id: str
    username: str


class Login(RequestBody):
    """Credentials."""

    username: GivenUsername
    password: GivenPassword


class Refresh(RequestBody):
    """The present refresh token of a session."""

    refresh_token: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)]


class Tokens(Answer):
    """What a session lives by: the access token for ``expires_in`` seconds, the refresh token for the next pair."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 (a type)
    expires_in: int
    refresh_token: str


class Me(Answer):
    """The caller's account; ``last_request_at`` is kept to the minute; a time is null where there was none yet."""

    user_id: str
    username: str
    created_at: datetime
    last_login_at: datetime | None
    last_request_at: datetime | None


class ChangePassword(RequestBody):
    """A new password, and the present one as proof."""

    current: GivenPassword
    new: NewPassword


class DeleteAccount(RequestBody):
    """The password, as proof."""

    password: GivenPassword


class SessionAnswer(Answer):
    """A session; ``current`` is the one that asks."""

    id: str
    created_at: datetime
    refreshed_at: datetime
    expires_at: datetime
    current: bool


class Sessions(Answer):
    """The caller's sessions, newest first."""

    sessions: list[SessionAnswer]


class CreateToken(RequestBody):
    """An API token to be made."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="What it is for, for its owner to recognise it by."
    )
    scopes: Annotated[list[Annotated[Scope, Field(strict=False)]], AfterValidator(_distinct)] = Field(
        min_length=1,
        max_length=len(Scope),
        description="What it shall be good for.",
        json_schema_extra={"uniqueItems": True},
    )
    expires_in_days: Annotated[int, Field(ge=1, le=3650), WHOLE] | None = Field(
        None, description="Without it, the token does not expire."
    )


class TokenAnswer(Answer):
    """An API token, without what it takes to use it."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None


class TokenCreated(TokenAnswer):
    """A new API token; ``token`` is shown this once and not kept."""

    token: str


class TokenList(Answer):
    """The caller's API tokens, newest first."""

    tokens: list[TokenAnswer]
