"""Errors that end a command, with their exit codes. The message is shown to the user.

No message contains a text, password, token or key.
"""

from enum import IntEnum

UNSURE = ". The request may or may not have been carried out"
"""Added to a message if the response was lost and the request is not retried."""


class ExitCode(IntEnum):
    """The exit codes of the program."""

    OK = 0
    REFUSED = 1
    WRONG_USAGE = 2
    UNREACHABLE = 3
    NOT_SIGNED_IN = 4
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS = {
    ExitCode.OK: "The command succeeded.",
    ExitCode.REFUSED: "The server refused the request or found nothing; or a local file or stdout failed.",
    ExitCode.WRONG_USAGE: "Wrong usage; nothing was sent.",
    ExitCode.UNREACHABLE: (
        "The server cannot be reached, is unavailable, or is not Sealpost; or the outcome of a request is unknown."
    ),
    ExitCode.NOT_SIGNED_IN: "Not signed in, or the session has ended.",
    ExitCode.INTERRUPTED: (
        "Interrupted: Ctrl-C, Ctrl-D at a prompt, or `gather --follow` stopped with lines left in the spool."
    ),
    ExitCode.BROKEN_PIPE: "The reader of stdout closed the pipe.",
}


class ClientError(Exception):
    """A command fails; the message says why, and what to do."""

    exit_code = ExitCode.REFUSED


class RequestRefused(ClientError):
    """The server rejected the request; ``status`` and ``code`` are from its problem details."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class WrongUsage(ClientError):
    """An argument, input or setting is unusable."""

    exit_code = ExitCode.WRONG_USAGE


class NotText(WrongUsage):
    """Input cannot be decoded as text."""


class Unreachable(ClientError):
    """The server is unreachable or unavailable; ``passing`` means that a retry may succeed."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class OutcomeUnknown(Unreachable):
    """The response was lost, so the request may have been carried out."""


class NotSealpost(Unreachable):
    """The response is not from a Sealpost server."""


class NotSignedIn(ClientError):
    """The request requires a sign-in, or the session has ended."""

    exit_code = ExitCode.NOT_SIGNED_IN


class Interrupted(ClientError):
    """Ctrl-C or Ctrl-D at a prompt; without a message."""

    exit_code = ExitCode.INTERRUPTED


class InputEnded(Interrupted):
    """Ctrl-D at a prompt: end of input."""


class PipeClosed(ClientError):
    """The reader of stdout closed the pipe; without a message, as in other programs."""

    exit_code = ExitCode.BROKEN_PIPE
