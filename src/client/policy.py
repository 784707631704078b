"""How a request is sent: with or without a token, and when it is retried."""

from enum import Enum, IntEnum, auto


class Auth(Enum):
    """Whether a request carries a token."""

    NONE = auto()
    ON_DEMAND = auto()
    """First without one, then with one if the server requires it; for requests that are anonymous on most servers."""
    REQUIRED = auto()


class Resend(IntEnum):
    """After which failures a request is retried; each value includes those before it."""

    NEVER = 0
    LIMITED = 1
    """After a 429, which is sent before the request takes effect, and if no connection was made."""
    UNAVAILABLE = 2
    """After a 503: the request had no effect, or a harmless one."""
    ALWAYS = 3
    """After a lost connection: the request is idempotent."""
