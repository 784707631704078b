"""Errors of signing in through an OpenID provider. None of them repeats a text of the provider."""

from ...errors import Forbidden, Malformed, Problem, Unavailable


class InvalidSignIn(Malformed):
    """No sign-in of this browser is in progress that the answer belongs to."""

    code = "invalid_sign_in"
    default = "This sign-in has expired, was already used, or began in another browser. Start again."


class SignInRefused(Forbidden):
    """The provider did not sign the user in."""

    code = "sign_in_refused"
    default = "The identity provider did not complete the sign-in. Start again."


class NotAdmitted(Forbidden):
    """The rules of this service exclude the user."""

    code = "not_admitted"
    default = "Your account at the identity provider may not use this service. Ask its operator for access."


class ProviderUnavailable(Unavailable):
    """The provider cannot be reached, or does not answer in time."""

    code = "provider_unavailable"
    default = "The identity provider does not answer. Try again after the delay in Retry-After."


class ProviderFaulty(Problem):
    """The provider's answer is unusable."""

    status, code, title = 502, "provider_faulty", "Bad gateway"
    default = "The identity provider sent an answer that this service cannot accept. Tell the operator of this service."
