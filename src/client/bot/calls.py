"""Requests of the bot: timed, counted by kind, and retried where that is harmless."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import replace
from http import HTTPStatus
from typing import Any

from ..durations import in_words
from ..errors import NotSealpost, OutcomeUnknown, Unreachable
from ..policy import Resend
from ..responses import Response
from ..transport import PAUSES, Transport, wait_to_resend
from .tally import Action, Tally

REFUSALS = range(400, 500)
PASSING = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""Statuses that a correct server may send under load or during a restart."""
PASSWORDS_AT_ONCE = 4
"""Hashing a password costs the server a quarter of a second of a core; more at once would queue or be rejected."""
PATIENCE = 60.0
"""Total seconds for which one request waits to be retried."""
WITHOUT_LIMITS = (
    "On a server used only for tests, set SEALPOST_RATE_LIMITS=off; a server with real users must keep its limits"
)

_RESEND = {Action.PUBLISH: Resend.LIMITED, Action.OPEN: Resend.UNAVAILABLE}
"""When each kind is retried. The others always are: usernames are unique to the run, and the link to a secret whose
response was lost is unknown."""
_WITH_PASSWORD = frozenset({Action.REGISTER, Action.SIGN_IN, Action.DELETE})


class NotDone(Exception):
    """A request failed; ``refused`` means that it certainly had no effect."""

    def __init__(self, reason: str = "", *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Failed(NotDone):
    """The current job fails; the error is already counted, and the run continues."""


class GaveUp(NotDone):
    """The run cannot continue; the message says why, and what to do."""


class MeasuredClient:
    """Sends at most ``at_once`` requests at a time, and counts the outcome of each attempt.

    ``notify`` is called once for each status that makes the bot wait.
    """

    def __init__(self, transport: Transport, tally: Tally, *, at_once: int, notify: Callable[[str], None]) -> None:
        self._transport, self._tally, self._notify = transport, tally, notify
        self._slots, self._password_slots = asyncio.Semaphore(at_once), asyncio.Semaphore(PASSWORDS_AT_ONCE)
        self._most_unanswered = 2 * at_once
        self._unanswered = 0
        self._told: set[int] = set()

    @property
    def url(self) -> str:
        """The server's URL."""
        return self._transport.url

    async def call(
        self,
        action: Action,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        query: Mapping[str, str] | None = None,
        accepted: Collection[str] = (),
        accepted_again: Collection[str] = (),
    ) -> Response:
        """Return a success, or a problem whose code is accepted. Raises `Failed` and `GaveUp`.

        Codes in ``accepted_again`` are accepted after a retry, because they mean that an earlier attempt succeeded.
        """
        resend = _RESEND.get(action, Resend.ALWAYS)
        tries, waited = 0, 0.0
        while True:
            async with self._password_slots if action in _WITH_PASSWORD else nullcontext(), self._slots:
                begun, outcome = await self._try(method, path, body, query, token)
            taken = {*accepted, *(accepted_again if tries else ())}
            if isinstance(outcome, Response) and (outcome.ok or outcome.code in taken):
                self._tally.answered(action, time.perf_counter() - begun)
                return replace(outcome, after_loss=tries > 0)
            self._tally.went_wrong(action, kind_of(outcome))
            wait = wait_to_resend(outcome, resend, _pause(outcome, tries))
            if wait is None or waited + (wait := max(wait, PAUSES[0])) > PATIENCE:
                self._tally.failed += 1
                self._tally.refused += isinstance(outcome, Response) and outcome.status not in PASSING
                refused = tries == 0 and isinstance(outcome, Response) and outcome.status in REFUSALS
                reason = self._reason_to_give_up(action, outcome)
                raise GaveUp(reason, refused=refused) if reason else Failed(refused=refused)
            self._tell(outcome)
            tries, waited = tries + 1, waited + wait
            await asyncio.sleep(wait)

    def malformed(self, action: Action) -> Failed:
        """Count an unexpected response, and return the exception to raise."""
        self._tally.went_wrong(action, "unexpected response")
        self._tally.failed += 1
        return Failed()

    def begin_anew(self) -> None:
        """Reset the count of consecutive unanswered requests."""
        self._unanswered = 0

    async def _try(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str] | None,
        token: str | None,
    ) -> tuple[float, Response | Unreachable]:
        begun = time.perf_counter()
        try:
            outcome: Response | Unreachable = await self._transport.send_once(
                method, path, body, query=query, token=token
            )
        except Unreachable as error:
            outcome = error
        self._unanswered = 0 if isinstance(outcome, Response) else self._unanswered + 1
        return begun, outcome

    def _tell(self, outcome: Response | Unreachable) -> None:
        status = outcome.status if isinstance(outcome, Response) else 0
        if status in self._told:
            return
        self._told.add(status)
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            self._notify(f"{self.url} limits requests per address (429); waiting as it asks. {WITHOUT_LIMITS}")
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._notify(f"{self.url} is overloaded or unavailable (503); waiting as it asks")

    def _reason_to_give_up(self, action: Action, outcome: Response | Unreachable) -> str:
        """Return the reason why later requests would fail too; empty if they may succeed."""
        if isinstance(outcome, Response) and outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
            again = f" Try again in {in_words(outcome.retry_after)}." if outcome.retry_after else ""
            if action is Action.REGISTER:
                return (
                    f"{self.url} limits registrations per address.{again} Use fewer --users, or ask the operator to"
                    f" raise SEALPOST_LIMIT_REGISTER. {WITHOUT_LIMITS}"
                )
            return f"{self.url} limits requests per address (429).{again} {WITHOUT_LIMITS}"
        if isinstance(outcome, Unreachable) and self._unanswered >= self._most_unanswered:
            return f"{self._unanswered} consecutive requests were not answered: {outcome}"
        return ""


def kind_of(outcome: Response | Unreachable) -> str:
    """Return the kind of an error, for the report."""
    match outcome:
        case Response():
            # Anything but a plain word is not from Sealpost, and does not belong in a table.
            code = outcome.code if outcome.code.isidentifier() else ""
            return f"{outcome.status} {code}".rstrip()
        case NotSealpost():
            return "unexpected response"
        case OutcomeUnknown(passing=True):
            return "connection lost"
        case OutcomeUnknown():
            return "timeout"
        case _:
            return "no connection"


def _pause(outcome: Response | Unreachable, tries: int) -> float | None:
    if isinstance(outcome, Response) and outcome.retry_after is not None:
        return PAUSES[-1]
    return PAUSES[tries] if tries < len(PAUSES) else None
