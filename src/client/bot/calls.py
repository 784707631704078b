"""Requests of the bot: measured, counted by kind, and sent again where that harms nobody."""

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
"""What a server that is right may answer to what the bot asks, when it has too much to do or is restarted."""
PASSWORDS_AT_ONCE = 4
"""A password takes a server a quarter of a second of a core: of more at once, most would wait or be sent away."""
PATIENCE = 60.0
"""Seconds that one request waits in all, where the server says that it shall come again."""
WITHOUT_LIMITS = (
    "A server that is for tests alone runs without limits by SEALPOST_RATE_LIMITS=off; one that people use must keep"
    " them"
)

_RESEND = {Action.PUBLISH: Resend.LIMITED, Action.OPEN: Resend.UNAVAILABLE}
"""After what each kind is sent again. The others may always be: names are the run's own, and nobody has the key of a
secret whose answer was lost."""
_WITH_PASSWORD = frozenset({Action.REGISTER, Action.SIGN_IN, Action.DELETE})


class NotDone(Exception):
    """A request came to nothing; ``refused`` where it is certain that nothing was carried out."""

    def __init__(self, reason: str = "", *, refused: bool = False) -> None:
        super().__init__(reason)
        self.refused = refused


class Failed(NotDone):
    """What needs this request fails; it is counted already, and the run goes on."""


class GaveUp(NotDone):
    """There is no sense in going on; the message says why, and what to do."""


class MeasuredClient:
    """Sends requests, at most ``at_once`` of them at a time, and counts what came of each try.

    ``notify`` is told once that the server wants to be waited for.
    """

    def __init__(self, transport: Transport, tally: Tally, *, at_once: int, notify: Callable[[str], None]) -> None:
        self._transport, self._tally, self._notify = transport, tally, notify
        self._slots, self._password_slots = asyncio.Semaphore(at_once), asyncio.Semaphore(PASSWORDS_AT_ONCE)
        self._most_unanswered = 2 * at_once
        self._unanswered = 0
        self._told: set[int] = set()

    @property
    def url(self) -> str:
        """The server's address."""
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
        """Return an answer that is a success, or a problem with an accepted code.

        Those of ``accepted_again`` are accepted once the request has been sent again, because they tell that an earlier
        try was carried out. Raises `Failed` and `GaveUp`.
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
        """Count an answer that lacks what it must have, and return what to raise."""
        self._tally.went_wrong(action, "not an answer of Sealpost")
        self._tally.failed += 1
        return Failed()

    def begin_anew(self) -> None:
        """Forget how many requests in a row were not answered."""
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
            self._notify(f"{self.url} limits how much one address may ask (429); waiting as it says. {WITHOUT_LIMITS}")
        elif status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._notify(f"{self.url} cannot answer everything now (503); waiting as it says")

    def _reason_to_give_up(self, action: Action, outcome: Response | Unreachable) -> str:
        """Say why what comes next would fail as well; nothing where it may go well."""
        if isinstance(outcome, Response) and outcome.status == HTTPStatus.TOO_MANY_REQUESTS:
            again = f" It lets go on in {in_words(outcome.retry_after)}." if outcome.retry_after else ""
            if action is Action.REGISTER:
                return (
                    f"{self.url} lets one address register only so many accounts.{again} Ask for fewer with --users, or"
                    f" have its operator raise SEALPOST_LIMIT_REGISTER. {WITHOUT_LIMITS}"
                )
            return f"{self.url} limits how much one address may ask (429).{again} {WITHOUT_LIMITS}"
        if isinstance(outcome, Unreachable) and self._unanswered >= self._most_unanswered:
            return f"{self._unanswered} requests in a row were not answered: {outcome}"
        return ""


def kind_of(outcome: Response | Unreachable) -> str:
    """Return what went wrong, as it is counted."""
    match outcome:
        case Response():
            # A code is a word of the server's; what else it may be is not for a table.
            code = outcome.code if outcome.code.isidentifier() else ""
            return f"{outcome.status} {code}".rstrip()
        case NotSealpost():
            return "not an answer of Sealpost"
        case OutcomeUnknown(passing=True):
            return "connection lost"
        case OutcomeUnknown():
            return "no answer in time"
        case _:
            return "no connection"


def _pause(outcome: Response | Unreachable, tries: int) -> float | None:
    if isinstance(outcome, Response) and outcome.retry_after is not None:
        return PAUSES[-1]
    return PAUSES[tries] if tries < len(PAUSES) else None
