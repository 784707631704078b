"""The gatherer's protocol: identify, authenticate, send."""

import time
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from ..policy import Resend
from ..responses import Response
from .batches import Part

if TYPE_CHECKING:
    from ..transport import Transport

EARLY = 30.0
"""A token is not used in the last seconds before it expires."""
BEGIN_ANEW = frozenset({"out_of_order", "other_address", "invalid_token", "unauthorized"})
"""Codes after which a sender has to identify and authenticate again."""


class Step(Enum):
    """The state of a sender; the value is its name for users."""

    GROUNDED = "grounded"
    IDENTIFIED = "identified"
    AUTHENTICATED = "authenticated"


class SenderSession:
    """One sender at one server. Methods return responses whatever their status, and update ``step``.

    With an ``api_token``, a sender needs no sign-in. Methods raise the errors of `Transport.send`.
    """

    def __init__(self, transport: "Transport", *, api_token: str | None = None, resend: Resend = Resend.NEVER) -> None:
        self._transport, self._resend = transport, resend
        self.api_token = api_token
        self.username: str | None = None
        self.step = Step.GROUNDED
        self.since = datetime.now(UTC)
        self._token = ""
        self._good_until = 0.0

    @property
    def seconds_left(self) -> float:
        """Seconds for which the token is valid; 0 or less once it has expired."""
        return self._good_until - time.monotonic()

    @property
    def may_send(self) -> bool:
        """Whether a message can be sent now."""
        return self.api_token is not None or (self.step is Step.AUTHENTICATED and self.seconds_left > 0)

    def ground(self) -> None:
        """Return to the first step."""
        self._reach(Step.GROUNDED)

    async def identify(self, username: str) -> Response:
        """Send the username."""
        self.ground()
        self.username = username
        answer = await self._post("/identify", "IDENTIFY", username=username)
        if answer.ok:
            self._reach(Step.IDENTIFIED)
        return answer

    async def authenticate(self, password: str) -> Response:
        """Send the password, and keep the token from the response."""
        answer = await self._post("/authenticate", "AUTHENTICATE", username=self.username, password=password)
        if answer.ok:
            self._token = answer.body.text("token")
            life = answer.body.number("expires_in")
            self._good_until = time.monotonic() + life - min(EARLY, life / 2)
            self._reach(Step.AUTHENTICATED)
        return answer

    async def send(self, part: Part) -> Response:
        """Send messages; the server stores repeated ones once."""
        token = self.api_token or self._token
        return await self._post("/message", "MESSAGE", token=token, messages=part.messages, batch=part.id)

    async def end(self) -> Response:
        """Log out, which affects every client of this user at this address."""
        answer = await self._post("/message", "MESSAGE", token=self._token, message="logout")
        if answer.ok:
            self.ground()
        return answer

    async def _post(self, path: str, message_type: str, **fields: Any) -> Response:
        body = {"message_type": message_type, **fields}
        answer = await self._transport.send("POST", path, body, resend=self._resend)
        if answer.code in BEGIN_ANEW:
            self.ground()
        return answer

    def _reach(self, step: Step) -> None:
        self.step, self.since = step, datetime.now(UTC)
