"""The accounts that a run registers, and deletes at its end."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from .client import TOO_MANY, ApiClient, TimedResponse

OK, CREATED, UNAVAILABLE = 200, 201, 503
TRIES = 10
SCOPES = ["secrets", "messages", "posts", "echo"]


class RunError(Exception):
    """The run cannot start; the message gives the reason."""


@dataclass
class VirtualUser:
    """An account with a session and an API token."""

    name: str
    password: str = field(repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    api_token: str = field(default="", repr=False)
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """Serializes refreshes: reusing a refresh token ends its session."""

    def credentials(self) -> dict[str, str]:
        """Return the login credentials."""
        return {"username": self.name, "password": self.password}


async def sign_up(client: ApiClient, users: list[VirtualUser]) -> None:
    """Register an account with a session and an API token; it is added to ``users`` first, so that `leave` deletes it.

    Raises `RunError`.
    """
    user = VirtualUser(f"slo-{secrets.token_hex(8)}", secrets.token_urlsafe(16))
    users.append(user)
    _succeeded("register", await _ask(client, "POST", "/register", user.credentials()))
    pair = _succeeded("sign in", await _ask(client, "POST", "/login", user.credentials()))
    user.access_token, user.refresh_token = pair["access_token"], pair["refresh_token"]
    body = {"name": "make slo", "scopes": SCOPES, "expires_in_days": 1}
    user.api_token = _succeeded("create a token", await _ask(client, "POST", "/tokens", body, user.access_token))[
        "token"
    ]


async def leave(client: ApiClient, user: VirtualUser) -> None:
    """Delete an account, if it exists, with all its content."""
    # A new login: the account must be deleted even if its session ended during the run.
    answer = await _ask(client, "POST", "/login", user.credentials())
    if answer.status == OK:
        await _ask(client, "DELETE", "/me", {"password": user.password}, answer.body["access_token"])


async def _ask(client: ApiClient, method: str, path: str, body: object, token: str = "") -> TimedResponse:
    """Send a request, with retries while the password queue is full."""
    for _ in range(TRIES):
        answer = await client.ask(method, path, body, token=token)
        if answer.status != UNAVAILABLE:
            break
        await asyncio.sleep(float(answer.retry_after or 1))
    return answer


def _succeeded(action: str, answer: TimedResponse) -> Any:
    if answer.status in {OK, CREATED}:
        return answer.body
    if answer.status == TOO_MANY:
        raise RunError(
            f"could not {action}: a rate limit of the stack is exceeded; try again in {answer.retry_after} s"
        )
    raise RunError(f"could not {action}: {f'status {answer.status}' if answer.status else 'no response'}")
