"""Who makes a request, and what an API token may be good for."""

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What an API token may be good for."""

    SECRETS = "secrets"
    MESSAGES = "messages"
    POSTS = "posts"
    GATHER = "gather"
    ECHO = "echo"


@dataclass(frozen=True)
class Caller:
    """Who makes a request, and by which session or API token."""

    user_id: bytes
    session_id: bytes | None = None
    token_id: bytes | None = None
    scopes: frozenset[str] = frozenset()
