"""The bot's accounts: registered at the start, deleted at the end."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import NotSealpost
from .calls import Failed, MeasuredClient, NotDone
from .tally import Action

PASSWORD_BYTES = 18
EARLY = 60
"""An access token is not used in the last seconds before it expires."""


@dataclass
class BotAccount:
    """An account. ``asked`` means that its registration was sent, so it may exist."""

    name: str
    password: str = field(repr=False)
    token: str = field(default="", repr=False)
    fresh_until: float = 0.0
    asked: bool = False
    registered: bool = False
    deleted: bool = False


class Accounts:
    """All accounts of a run, under names unique to the run."""

    def __init__(self, client: MeasuredClient, names: Sequence[str], prefix: str) -> None:
        self._client = client
        self.users = [BotAccount(prefix + name, secrets.token_urlsafe(PASSWORD_BYTES)) for name in names]

    async def sign_up(self, number: int) -> None:
        """Register a user and sign in."""
        user = self.users[number]
        user.asked = True
        body = {"username": user.name, "password": user.password}
        try:
            await self._client.call(Action.REGISTER, "POST", "/register", body, accepted_again={"username_taken"})
        except NotDone as error:
            user.asked = not error.refused
            raise
        user.registered = True
        await self.token(number)

    async def token(self, number: int) -> str:
        """Return a valid access token. Raises `Failed`, which is not counted for an unregistered user."""
        user = self.users[number]
        if not user.registered:
            raise Failed
        if time.monotonic() >= user.fresh_until:
            await self._sign_in(user)
        return user.token

    async def delete(self, number: int) -> None:
        """Delete an account and everything it owns, if it exists."""
        user = self.users[number]
        if user.asked and not user.registered:
            # The response to its registration was lost, so it may exist.
            user.registered = await self._sign_in(user)
        if user.registered:
            body, gone = {"password": user.password}, {"invalid_token", "incorrect_password"}
            token = await self.token(number)
            await self._client.call(Action.DELETE, "DELETE", "/me", body, token=token, accepted_again=gone)
        user.deleted = True

    def left(self) -> list[int]:
        """Return the users whose accounts exist or may exist."""
        return [number for number, user in enumerate(self.users) if user.asked and not user.deleted]

    async def _sign_in(self, user: BotAccount) -> bool:
        """Sign in; return whether the account exists."""
        body = {"username": user.name, "password": user.password}
        absent = () if user.registered else {"incorrect_credentials"}
        answer = await self._client.call(Action.SIGN_IN, "POST", "/login", body, accepted=absent)
        if not answer.ok:
            return False
        try:
            user.token = answer.body.text("access_token")
            user.fresh_until = time.monotonic() + answer.body.number("expires_in") - EARLY
        except NotSealpost:
            raise self._client.malformed(Action.SIGN_IN) from None
        return True
