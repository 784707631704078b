"""The accounts that a run makes for itself, and deletes at its end."""

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import Any

from .client import TOO_MANY, Answer, Client

OK, CREATED, UNAVAILABLE = 200, 201, 503
TRIES = 10
SCOPES = ["secrets", "messages", "posts", "echo"]


class RunError(Exception):
    """The run cannot begin; the message says why."""


@dataclass
class User:
    """An account with a session and an API token."""

    name: str
    password: str = field(repr=False)
    access_token: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    api_token: str = field(default="", repr=False)
    refreshing: asyncio.Lock = field(default_factory=asyncio.Lock, repr=False)
    """A refresh token that is used twice ends its session."""

    def credentials(self) -> dict[str, str]:
        """Return what signs in."""
        return {"username": self.name, "password": self.password}


async def sign_up(client: Client, users: list[User]) -> None:
    """Make an account with a session and an API token, and add it to the list before there is one.

    Raises `RunError` where that does not succeed.
    """
    user = User(f"slo-{secrets.token_hex(8)}", secrets.token_urlsafe(16))
    users.append(user)
    _succeeded("register", await _ask(client, "POST", "/register", user.credentials()))
    pair = _succeeded("sign in", await _ask(client, "POST", "/login", user.credentials()))
    user.access_token, user.refresh_token = pair["access_token"], pair["refresh_token"]
    body = {"name": "make slo", "scopes": SCOPES, "expires_in_days": 1}
    user.api_token = _succeeded("make a token", await _ask(client, "POST", "/tokens", body, user.access_token))["token"]


async def leave(client: Client, user: User) -> None:
    """Delete an account, if there is one, with all that it has written."""
    # Signed in anew: a session that came to grief in the run must not keep the account alive.
    answer = await _ask(client, "POST", "/login", user.credentials())
    if answer.status == OK:
        await _ask(client, "DELETE", "/me", {"password": user.password}, answer.body["access_token"])


async def _ask(client: Client, method: str, path: str, body: object, token: str = "") -> Answer:
    """Send a request, and again while the service is too busy with passwords."""
    for _ in range(TRIES):
        answer = await client.ask(method, path, body, token=token)
        if answer.status != UNAVAILABLE:
            break
        await asyncio.sleep(float(answer.retry_after or 1))
    return answer


def _succeeded(what: str, answer: Answer) -> Any:
    if answer.status in {OK, CREATED}:
        return answer.body
    if answer.status == TOO_MANY:
        raise RunError(
            f"could not {what}: this address is over a limit of the stack; try again in {answer.retry_after} s"
        )
    raise RunError(f"could not {what}: {f'the answer was {answer.status}' if answer.status else 'nobody answers'}")
