"""Bringing messages to a server that may be away, for as long as it takes."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

from ..answers import Answer
from ..environment import TOKEN
from ..errors import UNSURE, NotSealpost, NotSignedIn, Unreachable
from .batches import Part
from .patience import Patience
from .session import BEGIN_ANEW, SenderSession

NEVER_TAKEN = frozenset({"batch_reused", "malformed", "too_large", "damaged"})
"""Codes of answers that a batch would get each time."""
BEING_DELETED = "username_taken"


class Courier:
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
        self._patience = Patience(say)
        self.resent = 0
        """How often something was sent again."""

    @property
    def is_waiting(self) -> bool:
        """Whether the last try has failed, so that the next one may, too."""
        return self._patience.is_tried

    async def begin(self) -> None:
        """Find out whether all is well, as far as that can be done before there is something to send."""
        await self._log_in()
        self._patience.succeeded()

    async def deliver(self, part: Part) -> Answer:
        """Send messages until they are stored; return the answer, which is no success where they never will be."""
        tries = refusals = 0

        async def send() -> Answer:
            nonlocal tries
            self.resent += tries > 0
            tries += 1
            return _as_stored(await self._session.send(part), part)

        while True:
            await self._log_in()
            answer = await self._until_answered(send)
            if answer.ok or answer.code in NEVER_TAKEN:
                self._patience.succeeded()
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

    async def _until_answered(self, attempt: Callable[[], Awaitable[Answer]]) -> Answer:
        """Try until the answer does not depend on when it was asked for."""
        while True:
            try:
                answer = await attempt()
            except Unreachable as error:
                await asyncio.sleep(self._patience.failed(str(error).removesuffix(UNSURE)))
                continue
            if not _is_passing(answer):
                return answer
            await self._wait(answer)

    async def _wait(self, answer: Answer) -> None:
        await asyncio.sleep(self._patience.failed(str(answer.error()), retry_after=answer.retry_after))

    def _final(self, answer: Answer) -> Exception:
        error = answer.error(self._words)
        if isinstance(error, NotSignedIn) and self._session.api_token is not None:
            return NotSignedIn(f"the server does not accept the token in {TOKEN}: it takes an API token that is good")
        return error


def _is_passing(answer: Answer) -> bool:
    """Tell whether the same request may get another answer by and by."""
    if answer.ok:
        return False
    return (
        answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or answer.status == HTTPStatus.TOO_MANY_REQUESTS
        or answer.code in {"", BEING_DELETED}
    )


def _as_stored(answer: Answer, part: Part) -> Answer:
    """Return the answer. Raises `NotSealpost` for a success that does not say that all of it is stored."""
    if answer.ok:
        stored = answer.body.number("last_sequence") - answer.body.number("first_sequence") + 1
        if answer.status != HTTPStatus.CREATED or stored != len(part.messages):
            raise NotSealpost(f"what answers at {answer.url} is not Sealpost")
    return answer
