"""The accounts of the bot: made at the beginning, and deleted at the end."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import NotSealpost
from .calls import Failed, MeasuredClient, NotDone
from .tally import Action

PASSWORD_BYTES = 18
EARLY = 60
"""Seconds before its end from which an access token is not used any more."""


@dataclass
class Account:
    """An account; ``asked`` tells that its registration was sent, so that it may be there."""

    name: str
    password: str = field(repr=False)
    token: str = field(default="", repr=False)
    fresh_until: float = 0.0
    asked: bool = False
    registered: bool = False
    deleted: bool = False


class Accounts:
    """All accounts of a run, under names that no other run has."""

    def __init__(self, client: MeasuredClient, names: Sequence[str], prefix: str) -> None:
        self._client = client
        self.users = [Account(prefix + name, secrets.token_urlsafe(PASSWORD_BYTES)) for name in names]

    async def sign_up(self, number: int) -> None:
        """Register a user, and sign in."""
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
        """Return a good access token of a user. Raises `Failed`, for one who is not registered uncounted."""
        user = self.users[number]
        if not user.registered:
            raise Failed
        if time.monotonic() >= user.fresh_until:
            await self._sign_in(user)
        return user.token

    async def delete(self, number: int) -> None:
        """Delete an account, with all that it wrote, if it is there."""
        user = self.users[number]
        if user.asked and not user.registered:
            # Its registration was not answered, and may have been carried out.
            user.registered = await self._sign_in(user)
        if user.registered:
            body, gone = {"password": user.password}, {"invalid_token", "incorrect_password"}
            token = await self.token(number)
            await self._client.call(Action.DELETE, "DELETE", "/me", body, token=token, accepted_again=gone)
        user.deleted = True

    def left(self) -> list[int]:
        """Return the users whose accounts are there, or may be."""
        return [number for number, user in enumerate(self.users) if user.asked and not user.deleted]

    async def _sign_in(self, user: Account) -> bool:
        """Tell whether the account is there."""
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
