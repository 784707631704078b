"""The steps of a sender: identify, authenticate, send; and how far it has come."""

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
"""Seconds before its end from which a token is not used any more."""
BEGIN_ANEW = frozenset({"out_of_order", "other_address", "invalid_token", "unauthorized"})
"""Codes after which a sender identifies and authenticates again."""


class Step(Enum):
    """How far a sender has come; the value is the word for it."""

    GROUNDED = "grounded"
    IDENTIFIED = "identified"
    AUTHENTICATED = "authenticated"


class SenderSession:
    """One sender at one server. Answers are returned whatever they say; ``step`` is what they come to.

    With an ``api_token`` there are no steps. Methods raise what `Transport.send` raises.
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
        """How long the token is still good for; zero or less where it is not."""
        return self._good_until - time.monotonic()

    @property
    def may_send(self) -> bool:
        """Whether sending is the next step."""
        return self.api_token is not None or (self.step is Step.AUTHENTICATED and self.seconds_left > 0)

    def ground(self) -> None:
        """Begin anew."""
        self._reach(Step.GROUNDED)

    async def identify(self, username: str) -> Response:
        """Say who is going to send."""
        self.ground()
        self.username = username
        answer = await self._post("/identify", "IDENTIFY", username=username)
        if answer.ok:
            self._reach(Step.IDENTIFIED)
        return answer

    async def authenticate(self, password: str) -> Response:
        """Prove it."""
        answer = await self._post("/authenticate", "AUTHENTICATE", username=self.username, password=password)
        if answer.ok:
            self._token = answer.body.text("token")
            life = answer.body.number("expires_in")
            self._good_until = time.monotonic() + life - min(EARLY, life / 2)
            self._reach(Step.AUTHENTICATED)
        return answer

    async def send(self, part: Part) -> Response:
        """Send messages, which are stored once however often they are sent."""
        token = self.api_token or self._token
        return await self._post("/message", "MESSAGE", token=token, messages=part.messages, batch=part.id)

    async def end(self) -> Response:
        """Log out; every program of this user at this address begins anew then."""
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
