"""What can go wrong for the person who types, each with its exit code; the message is what they read.

No message holds what was sent: no text, phrase, password, token, or key.
"""

from enum import IntEnum

UNSURE = ". The request may or may not have been carried out"
"""What is added where an answer was lost and a request is not sent again."""


class ExitCode(IntEnum):
    """How the program ends."""

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
    """A command cannot do what it was asked for; the message says why, and what to do."""

    exit_code = ExitCode.REFUSED


class RequestRefused(ClientError):
    """The server understood, and said no; ``status`` and ``code`` are those of its problem details."""

    def __init__(self, message: str, *, status: int, code: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class WrongUsage(ClientError):
    """What was typed, piped in or configured cannot be used."""

    exit_code = ExitCode.WRONG_USAGE


class NotText(WrongUsage):
    """A text that was typed or read cannot be decoded."""


class Unreachable(ClientError):
    """The server cannot be reached or cannot work now; ``passing`` where that may be over in a moment."""

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str, *, passing: bool = False) -> None:
        super().__init__(message)
        self.passing = passing


class OutcomeUnknown(Unreachable):
    """The answer was lost, so the request may have been carried out."""


class NotSealpost(Unreachable):
    """Something answers, but not as Sealpost does."""


class NotSignedIn(ClientError):
    """The request takes a signed-in user, or the sign-in is no longer good."""

    exit_code = ExitCode.NOT_SIGNED_IN


class Interrupted(ClientError):
    """Somebody ended the program at a prompt, with Ctrl-C or Ctrl-D; without a message, as they know."""

    exit_code = ExitCode.INTERRUPTED


class InputEnded(Interrupted):
    """It was Ctrl-D: there is nothing more to type."""


class PipeClosed(ClientError):
    """Whoever read stdout has gone; without a message, as with other programs."""

    exit_code = ExitCode.BROKEN_PIPE
