"""Errors of accounts, sessions and API tokens."""

from ..errors import Conflict, Forbidden, Malformed, NotFound, Unauthorized


class UsernameTaken(Conflict):
    """The name is taken, possibly in another case."""

    code, default = "username_taken", "This username is taken. Choose another."


class RegistrationClosed(Forbidden):
    """Registration is closed, or requires a valid invitation."""

    code = "registration_closed"
    default = "Registration is closed. The operator of this service can create an account for you."


class UserNotFound(NotFound):
    """There is no such user."""

    code, default = "user_not_found", "There is no such user. GET /users lists all users."


class OwnAccount(Conflict):
    """An operator may not disable their own account or revoke its role: the last operator could be locked out."""

    code, default = "own_account", "You cannot change your own account here. Another operator can."


class InvitationNotFound(NotFound):
    """There is no such invitation."""

    code = "invitation_not_found"
    default = "There is no such invitation: it was deleted, used or has expired. GET /invitations lists all."


class InvitationsOff(Conflict):
    """Registration is closed, so an invitation would be useless."""

    code = "invitations_off"
    default = "Registration is closed on this service, so invitations do not work. No invitation was created."


class TooManyInvitations(Conflict):
    """There is the maximum number of invitations."""

    code = "too_many_invitations"
    default = "There are too many unused invitations. Delete some of them first."


class InvalidToken(Unauthorized):
    """The token is invalid."""

    code = "invalid_token"
    default = "The token is invalid, expired or revoked."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail, challenge='Bearer realm="sealpost", error="invalid_token"')


class InsufficientScope(Forbidden):
    """The API token is valid but may not be used for this request."""

    code = "insufficient_scope"
    default = "This API token may not be used here: the request requires another scope or an access token."


class NotOperator(Forbidden):
    """Only operators may send this request."""

    code = "not_operator"
    default = "Only operators may do this. The administrator of this service can make you an operator."


class IncorrectCredentials(Unauthorized):
    """Unknown user or wrong password; the answer does not say which."""

    code, default = "incorrect_credentials", "Incorrect username or password."


class InvalidRefreshToken(Unauthorized):
    """The refresh token is unknown or used, or its session has ended."""

    code = "invalid_refresh_token"
    default = "The refresh token is invalid, expired or already used. POST /login starts a new session."


class InvalidCode(Unauthorized):
    """The sign-in code is unknown, used or expired, or does not belong to the verifier."""

    code = "invalid_code"
    default = "The sign-in code is invalid, expired or already used. Start signing in again."


class AccountDisabled(Forbidden):
    """The password is correct, but the account is disabled."""

    code, default = "account_disabled", "This account is disabled. Contact the operator of this service."


class IncorrectPassword(Forbidden):
    """A signed-in user gave a wrong current password."""

    code, default = "incorrect_password", "Incorrect password."


class SignInAgain(Forbidden):
    """The request needs a session that has started recently, because the account has no password to confirm it."""

    code, default = "sign_in_again", "This requires a recent sign-in. Sign in again, then repeat it within 10 minutes."


class LastWayToSignIn(Conflict):
    """The account could not sign in any more."""

    code = "last_way_to_sign_in"
    default = "This is the last way to sign in to your account. Add a passkey or set a password first."


class SessionNotFound(NotFound):
    """The caller has no such session."""

    code, default = "session_not_found", "You have no such session. GET /sessions lists your sessions."


class TokenNotFound(NotFound):
    """The caller has no such API token."""

    code, default = "token_not_found", "You have no such API token. GET /tokens lists your API tokens."


class TooManyTokens(Conflict):
    """The caller has the maximum number of API tokens."""

    code, default = "too_many_tokens", "You have the maximum number of API tokens. Delete one first."


class InvalidPasskey(Malformed):
    """The browser's answer does not contain a passkey for this account and this service."""

    code = "invalid_passkey"
    default = "The passkey cannot be added: it was not created for this service and with these options. Try again."


class PasskeyExists(Conflict):
    """The passkey has been added before."""

    code, default = "passkey_exists", "This passkey has been added already."


class PasskeyNotFound(NotFound):
    """The caller has no such passkey."""

    code, default = "passkey_not_found", "You have no such passkey. GET /passkeys lists your passkeys."


class TooManyPasskeys(Conflict):
    """The caller has the maximum number of passkeys."""

    code, default = "too_many_passkeys", "You have the maximum number of passkeys. Delete one first."


class PasskeyRefused(Unauthorized):
    """The passkey is unknown or its answer invalid; the answer does not say which."""

    code, default = "passkey_refused", "This passkey cannot sign in here. Try again, or sign in in another way."
