"""Requests and answers of the account, session and token routes."""

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ..api.schema import WHOLE, Answer, RequestBody, example
from .auth import Scope
from .passwords import LONGEST_PASSWORD, SHORTEST_PASSWORD
from .sign_in_ways import Way
from .users import NAME_PATTERN

LONGEST_TOKEN = 4096
CHALLENGE_PATTERN = "^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$"
"""32 bytes in URL-safe base64."""

Username = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
NewPassword = Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST_PASSWORD)]
# Compared, not stored. Any form is accepted: a validation error would reveal more than "incorrect" does.
GivenUsername = Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)]
GivenPassword = Annotated[str, StringConstraints(max_length=LONGEST_PASSWORD)]


COOKIE = (
    "True to get the refresh token as an HttpOnly cookie instead of in the response; only for requests of this"
    " service's page."
)


def _distinct(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) != len(scopes):
        raise ValueError("must not contain duplicates")
    return scopes


class Register(RequestBody):
    """A new account."""

    model_config = example({"username": "ben", "password": "correct horse battery staple"})

    username: Username = Field(description="Unique, ignoring case.")
    password: NewPassword = Field(description="Every character counts.")
    # Any form is accepted, like that of a password.
    invitation: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)] | None = Field(
        None, description="An invitation from an operator. It may be required, and gives the account its role."
    )


class Registered(Answer):
    """The created account."""

    user_id: str = Field(description="32 hexadecimal digits, the permanent id of the account.")
    username: str = Field(description="The name as sent.")


class Login(RequestBody):
    """A username and its password."""

    model_config = example({"username": "ben", "password": "correct horse battery staple"})

    username: GivenUsername = Field(description="The username of the account, ignoring case.")
    password: GivenPassword = Field(description="The password of the account.")
    cookie: bool = Field(False, description=COOKIE)


class Refresh(RequestBody):
    """The current refresh token of a session, or `cookie` if the refresh cookie carries it."""

    model_config = example(
        {"refresh_token": "$REFRESH_TOKEN"},
        oneOf=[{"required": ["refresh_token"]}, {"required": ["cookie"], "properties": {"cookie": {"const": True}}}],
    )

    refresh_token: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)] = Field(
        "", description="The latest refresh token of the session; not with `cookie`."
    )
    cookie: bool = Field(
        False,
        description="True to use and replace the token in the refresh cookie, in requests of this service's page.",
    )

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if self.cookie == ("refresh_token" in self.model_fields_set):
            raise ValueError("must have either refresh_token or cookie")
        return self


class Tokens(Answer):
    """The tokens of a session: the access token is valid for ``expires_in`` seconds."""

    access_token: str = Field(description="The access token, for the header Authorization.")
    token_type: Literal["Bearer"] = Field("Bearer", description="The scheme of the header Authorization.")
    expires_in: int = Field(description="Lifetime of the access token in seconds.")
    refresh_token: str | None = Field(
        None, description="The refresh token, for the next pair of tokens; absent if a cookie carries it."
    )


class CreateCode(RequestBody):
    """The challenge of the program that is to be signed in."""

    model_config = example({"challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"})

    challenge: Annotated[str, StringConstraints(pattern=CHALLENGE_PATTERN)] = Field(
        description="The SHA-256 of the verifier in URL-safe base64: 43 characters."
    )


class CodeAnswer(Answer):
    """A code that signs a program in."""

    code: str = Field(description="The code, for one use.")
    expires_in: int = Field(description="Lifetime of the code in seconds.")


class CodeLogin(RequestBody):
    """A sign-in code, and the verifier that only the program knows."""

    model_config = example({"code": "$CODE", "verifier": "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"})

    code: Annotated[str, StringConstraints(max_length=LONGEST_TOKEN)] = Field(
        description="The code from POST /login/codes."
    )
    verifier: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._~-]{43,128}$")] = Field(
        description="The random text whose SHA-256 is the challenge of the code."
    )
    cookie: bool = Field(False, description=COOKIE)


class Me(Answer):
    """The caller's account; ``last_request_at`` has a precision of one minute. Times are null if there was none yet."""

    user_id: str = Field(description="32 hexadecimal digits, the permanent id of the account.")
    username: str = Field(description="The name as registered.")
    operator: bool = Field(description="Whether the user is an operator.")
    sign_in: list[Way] = Field(description="The ways in which the account can sign in.")
    created_at: datetime = Field(description="When the account was created.")
    last_login_at: datetime | None = Field(description="When the last session started; null if there was none.")
    last_request_at: datetime | None = Field(
        description="When a token of the account was last used; null if none was. It may lag by a minute."
    )


class ChangePassword(RequestBody):
    """A new password, and the current one as proof."""

    model_config = example({"current": "correct horse battery staple", "new": "three other words"})

    current: GivenPassword | None = Field(
        None, description="The current password, as proof; required if the account has one."
    )
    new: NewPassword = Field(description="The new password.")


class RemovePassword(RequestBody):
    """The current password, as proof."""

    model_config = example({"current": "three other words"})

    current: GivenPassword | None = Field(
        None, description="The current password, as proof; required if the account has one."
    )


class DeleteAccount(RequestBody):
    """The current password, as proof."""

    model_config = example({"password": "correct horse battery staple"})

    password: GivenPassword | None = Field(
        None, description="The current password, as proof; required if the account has one."
    )


class SessionAnswer(Answer):
    """A session; ``current`` is true for the session of this request."""

    id: str = Field(description="32 hexadecimal digits, used to end the session.")
    created_at: datetime = Field(description="When the session started.")
    refreshed_at: datetime = Field(description="When the session was last refreshed, or else when it started.")
    expires_at: datetime = Field(description="When the session ends unless it is refreshed.")
    current: bool = Field(description="Whether it is the session of this request.")


class Sessions(Answer):
    """The caller's sessions, newest first."""

    sessions: list[SessionAnswer] = Field(description="The sessions.")


class CreateToken(RequestBody):
    """A new API token."""

    model_config = example({"name": "nightly report", "scopes": ["secrets"], "expires_in_days": 90})

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

    id: str = Field(description="32 hexadecimal digits, used to delete the token.")
    name: str = Field(description="The name as sent.")
    scopes: list[Scope] = Field(description="The permissions of the token, in alphabetical order.")
    created_at: datetime = Field(description="When the token was created.")
    expires_at: datetime | None = Field(description="When the token expires; null if it does not.")
    last_used_at: datetime | None = Field(
        description="When the token was last used; null if it was not. It may lag by a minute."
    )


class TokenCreated(TokenAnswer):
    """The created API token; ``token`` is shown only once."""

    token: str = Field(description="The token: 75 characters. The server does not store it.")


class TokenList(Answer):
    """The caller's API tokens, newest first."""

    tokens: list[TokenAnswer] = Field(description="The API tokens.")
