"""Delivery to a server that may be unavailable, with unlimited retries."""

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
"""Codes of permanent errors of a batch."""
BEING_DELETED = "username_taken"
SHORTEST, LONGEST = 0.25, 10.0
"""Seconds of backoff, after the first failure and at most."""
SILENCE = 1.0
"""Seconds before a failure is reported: a restart of a worker is not worth a message."""


class Backoff:
    """Exponential backoff. ``say`` reports each reason once, and the recovery."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._failures = 0
        self._since = 0.0
        self._said = ""

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def failed(self, reason: str, *, retry_after: float | None = None) -> float:
        """Return the seconds to wait, with jitter, so that clients do not retry in step."""
        if not self._failures:
            self._since = time.monotonic()
        self._failures += 1
        if reason != self._said and time.monotonic() - self._since >= SILENCE:
            self._said = reason
            self._say(f"{reason.rstrip('.')}. Retrying; lines stay in the spool")
        pause = min(LONGEST, SHORTEST * 2.0 ** min(self._failures - 1, 10))
        # Never before the server's Retry-After.
        return (retry_after or 0) + pause * random.uniform(0.5, 1)  # noqa: S311 (not a secret)

    def succeeded(self) -> None:
        """Reset the backoff."""
        if self._said:
            self._say(f"delivering again, after {in_words(time.monotonic() - self._since)}")
        self._failures, self._said = 0, ""


class RetryingSender:
    """Sends messages, signs in when necessary, and retries until the server answers.

    Methods raise `ClientError` for permanent errors. ``say`` gets messages for the user; ``words`` replace the server's
    text for a code.
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
        """Number of requests that were repeated."""

    @property
    def is_waiting(self) -> bool:
        """Whether the last attempt failed, so that the next one may fail too."""
        return self._backoff.is_failing

    async def begin(self) -> None:
        """Sign in, so that a wrong password is reported before the first line arrives."""
        await self._log_in()
        self._backoff.succeeded()

    async def deliver(self, part: Part) -> Response:
        """Send messages until they are stored, or until the server rejects them for good; return the response."""
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
            # The token has expired, or another client of this user has logged out. If this repeats, as with a
            # changing IP address, back off.
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
                    self._say(f"{self._username} is new: the given password is now its password")
                return
            if answer.code not in BEGIN_ANEW:
                raise self._final(answer)
            await self._wait(answer)

    async def _until_answered(self, attempt: Callable[[], Awaitable[Response]]) -> Response:
        """Retry until the response is not a temporary error."""
        while True:
            try:
                answer = await attempt()
            except Unreachable as error:
                await asyncio.sleep(self._backoff.failed(str(error).removesuffix(UNSURE)))
                continue
            if not _is_temporary(answer):
                return answer
            await self._wait(answer)

    async def _wait(self, answer: Response) -> None:
        await asyncio.sleep(self._backoff.failed(str(answer.error()), retry_after=answer.retry_after))

    def _final(self, answer: Response) -> Exception:
        error = answer.error(self._words)
        if isinstance(error, NotSignedIn) and self._session.api_token is not None:
            return NotSignedIn(f"the server rejected the token in {TOKEN}: it must be a valid API token")
        return error


def _is_temporary(answer: Response) -> bool:
    """Return whether an error is temporary."""
    if answer.ok:
        return False
    return (
        answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or answer.status == HTTPStatus.TOO_MANY_REQUESTS
        or answer.code in {"", BEING_DELETED}
    )


def _as_stored(answer: Response, part: Part) -> Response:
    """Return the response. Raises `NotSealpost` for a success that does not confirm every message."""
    if answer.ok:
        stored = answer.body.number("last_sequence") - answer.body.number("first_sequence") + 1
        if answer.status != HTTPStatus.CREATED or stored != len(part.messages):
            raise NotSealpost(f"{answer.url} did not answer like a Sealpost server")
    return answer
