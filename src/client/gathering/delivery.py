"""Bringing messages to a server that may be away, for as long as it takes."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from ..durations import in_words
from ..environment import TOKEN
from ..errors import UNSURE, NotSealpost, NotSignedIn, Unreachable
from ..responses import Response
from .batches import Part
from .session import BEGIN_ANEW, SenderSession

NEVER_TAKEN = frozenset({"batch_reused", "malformed", "too_large", "damaged"})
"""Codes of answers that a batch would get each time."""
BEING_DELETED = "username_taken"
SHORTEST, LONGEST = 0.25, 10.0
"""Seconds before the second try, and before each one after many."""
SILENCE = 1.0
"""Seconds for which nothing is said: a worker that is restarted is no news."""


class Backoff:
    """Counts failures in a row. ``say`` is told why it takes so long, once for each reason, and when it is over."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failures = 0
        self._since = 0.0
        self._said = ""

    @property
    def is_failing(self) -> bool:
        """Whether the last try has failed."""
        return self._failures > 0

    def failed(self, reason: str, *, retry_after: float | None = None) -> float:
        """Return how many seconds to wait; many clients that wait do not come back at the same moment."""
        if not self._failures:
            self._since = time.monotonic()
        self._failures += 1
        if reason != self._said and time.monotonic() - self._since >= SILENCE:
            self._said = reason
            self._say(f"{reason.rstrip('.')}. Lines wait in the spool until that is over")
        pause = min(LONGEST, SHORTEST * 2.0 ** min(self._failures - 1, 10))
        # Within the half of it, and never before the server wants to be asked.
        return (retry_after or 0) + pause * random.uniform(0.5, 1)  # noqa: S311 (no secret)

    def succeeded(self) -> None:
        """Begin to count anew."""
        if self._said:
            self._say(f"delivering again, after {in_words(time.monotonic() - self._since)}")
        self._failures, self._said = 0, ""


class Delivery:
    """Identifies and authenticates whenever it has to, and sends until there is an answer.

    Methods raise `ClientError` for what waiting does not mend. ``say`` is told what a person should know; ``words``
    tell what a code means, better than the server does.
    """

    def __init__(
        self,
        session: SenderSession,
        *,
        username: str,
        password: str,
        words: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        self._session, self._username, self._password = session, username, password
        self._words, self._say = words, say
        self._backoff = Backoff(say)
        self.resent = 0
        """How often something was sent again."""

    @property
    def is_waiting(self) -> bool:
        """Whether the last try has failed, so that the next one may, too."""
        return self._backoff.is_failing

    async def begin(self) -> None:
        """Find out whether all is well, as far as that can be done before there is something to send."""
        await self._log_in()
        self._backoff.succeeded()

    async def deliver(self, part: Part) -> Response:
        """Send messages until they are stored; return the answer, which is no success where they never will be."""
        tries = refusals = 0

        async def send() -> Response:
            nonlocal tries
            self.resent += tries > 0
            tries += 1
            return _as_stored(await self._session.send(part), part)

        while True:
            await self._log_in()
            answer = await self._until_answered(send)
            if answer.ok or answer.code in NEVER_TAKEN:
                self._backoff.succeeded()
                return answer
            if self._session.api_token is not None or answer.code not in BEGIN_ANEW:
                raise self._final(answer)
            # The token is over, or another program of this user has logged out. Where it happens again and again,
            # as with an address that changes, it must not become a flood.
            if refusals:
                await self._wait(answer)
            refusals += 1

    async def _log_in(self) -> None:
        while not self._session.may_send:
            answer = await self._until_answered(lambda: self._session.identify(self._username))
            if answer.ok:
                answer = await self._until_answered(lambda: self._session.authenticate(self._password))
            if answer.ok:
                if answer.status == HTTPStatus.CREATED:
                    self._say(f"{self._username} had no password yet: it is the given one from now on")
                return
            if answer.code not in BEGIN_ANEW:
                raise self._final(answer)
            await self._wait(answer)

    async def _until_answered(self, attempt: Callable[[], Awaitable[Response]]) -> Response:
        """Try until the answer does not depend on when it was asked for."""
        while True:
            try:
                answer = await attempt()
            except Unreachable as error:
                await asyncio.sleep(self._backoff.failed(str(error).removesuffix(UNSURE)))
                continue
            if not _is_passing(answer):
                return answer
            await self._wait(answer)

    async def _wait(self, answer: Response) -> None:
        await asyncio.sleep(self._backoff.failed(str(answer.error()), retry_after=answer.retry_after))

    def _final(self, answer: Response) -> Exception:
        error = answer.error(self._words)
        if isinstance(error, NotSignedIn) and self._session.api_token is not None:
            return NotSignedIn(f"the server does not accept the token in {TOKEN}: it takes an API token that is good")
        return error


def _is_passing(answer: Response) -> bool:
    """Tell whether the same request may get another answer by and by."""
    if answer.ok:
        return False
    return (
        answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or answer.status == HTTPStatus.TOO_MANY_REQUESTS
        or answer.code in {"", BEING_DELETED}
    )


def _as_stored(answer: Response, part: Part) -> Response:
    """Return the answer. Raises `NotSealpost` for a success that does not say that all of it is stored."""
    if answer.ok:
        stored = answer.body.number("last_sequence") - answer.body.number("first_sequence") + 1
        if answer.status != HTTPStatus.CREATED or stored != len(part.messages):
            raise NotSealpost(f"what answers at {answer.url} is not Sealpost")
    return answer
