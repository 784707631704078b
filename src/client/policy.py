"""How a request is sent: with a token or without, and after what again."""

from enum import Enum, IntEnum, auto


class Auth(Enum):
    """Whether a request goes with a token."""

    NONE = auto()
    WHERE_ASKED = auto()
    """Without one first; with it where the server asks for it. For what is anonymous on most servers."""
    NEEDED = auto()


class Resend(IntEnum):
    """After what a request is sent again by itself; each includes those before it."""

    NEVER = 0
    LIMITED = 1
    """After a 429, which comes before anything is done, and where no connection was made."""
    UNAVAILABLE = 2
    """After a 503: nothing was done, or what was done harms nobody."""
    ALWAYS = 3
    """After a lost connection: carried out twice is the same as once."""
