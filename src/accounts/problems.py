"""What can go wrong with accounts, each with its status and code."""

from ..errors import Conflict, Forbidden, NotFound, Unauthorized


class UsernameTaken(Conflict):
    """Somebody has the name, perhaps in another case."""

    code, default = "username_taken", "This username is taken. Choose another."


class InvalidToken(Unauthorized):
    """The credentials were sent and are not good."""

    code = "invalid_token"
    default = "The token is not valid, or no longer valid."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, challenge='Bearer realm="sealpost", error="invalid_token"')


class InsufficientScope(Forbidden):
    """The API token is good, but not for this."""

    code = "insufficient_scope"
    default = "This API token is not good for this request: it takes another scope, or an access token."


class NotOperator(Forbidden):
    """The request is for operators alone."""

    code = "not_operator"
    default = "This is for operators alone. Whoever runs this service can make you one."


class IncorrectCredentials(Unauthorized):
    """Unknown user or wrong password; which one is not told."""

    code, default = "incorrect_credentials", "Incorrect username or password."


class InvalidRefreshToken(Unauthorized):
    """The refresh token was never good, was used before, or its session has ended."""

    code = "invalid_refresh_token"
    default = "This refresh token is not valid or no longer so. POST /login begins a new session."


class AccountDisabled(Forbidden):
    """The password is right, and the operator has disabled the account."""

    code, default = "account_disabled", "This account is disabled. Ask the operator of this service."


class IncorrectPassword(Forbidden):
    """A signed-in user gave another password than their own."""

    code, default = "incorrect_password", "Incorrect password."


class SessionNotFound(NotFound):
    """The caller has no such session (any more)."""

    code, default = "session_not_found", "You have no such session. GET /sessions lists those that you have."


class TokenNotFound(NotFound):
    """The caller has no such API token (any more)."""

    code, default = "token_not_found", "You have no such API token. GET /tokens lists those that you have."


class TooManyTokens(Conflict):
    """The caller has as many API tokens as one may have."""

    code, default = "too_many_tokens", "You have as many API tokens as one user may have. Delete one first."
