"""Opening a secret with a key of the reader's own, so that a lost response does not lose the text."""

import os
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from ..addresses import Kind, ParsedLink
from ..blocking_api import BlockingApi
from ..envelopes import KEY_BYTES, TextKeys, derive_keys, write_base64
from ..errors import UNSURE, ClientError, NotSealpost, OutcomeUnknown, RequestRefused, Unreachable
from ..output import say
from ..policy import Resend
from ..prompts import ask_secret_password
from ..responses import JsonObject, Response, Words

NOT_THERE = {"key_not_found": "nothing there: it was opened or burned, has expired, or never existed"}
HOLD_SECONDS = 120.0
"""Seconds for which a server holds an opening by default; it may be set to another time."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 10.0
_UNKNOWN = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
HELD_UNTIL = "held_until"


class SecretReader:
    """The reader of one secret. The server gives the text to this reader again if the response was lost."""

    def __init__(self, server: BlockingApi, key: str, reader: str | None = None) -> None:
        """Take the key of a ``reader`` who asks again."""
        self._server = server
        self._path = f"/{Kind.SECRET}/{key}"
        self._is_kept = reader is not None
        self._key: str | None = reader or write_base64(os.urandom(KEY_BYTES))

    def open(self, password: str | None = None) -> Response:
        """Return the response; while the outcome is unknown, ask again for as long as the server may hold the text.

        Raises `OutcomeUnknown` after that, and the other errors of `Api.call`.
        """
        body: dict[str, Any] = {} if password is None else {"phrase": password}
        if self._key is None:
            return self._open_once(body)
        try:
            answer = self._open_held({**body, "reader": self._key})
        except KeyboardInterrupt:
            if not self._is_kept:
                # The key ends with this process, so the text may be lost.
                say(f"interrupted{UNSURE}")
            raise
        if answer.code == "malformed" and _refuses_key(answer):
            # A server of an older version.
            self._key = None
            return self._open_once(body)
        return answer

    def confirm(self, opened: JsonObject) -> None:
        """Tell the server that the text has been written. A failure is ignored, because the hold ends by itself."""
        if not opened.has(HELD_UNTIL):
            return
        try:
            self._server.call("POST", f"{self._path}/received", {"reader": self._key}, resend=Resend.ALWAYS)
        except ClientError:
            return

    def _open_held(self, body: dict[str, Any]) -> Response:
        deadline: float | None = None
        for pause in _pauses():
            try:
                answer = self._server.call("POST", self._path, body, resend=Resend.ALWAYS)
            except NotSealpost:
                raise
            except Unreachable as error:
                if deadline is None and not isinstance(error, OutcomeUnknown):
                    # Nothing has been sent.
                    raise
                failure: ClientError = error
            else:
                if answer.status not in _UNKNOWN:
                    return answer
                failure = answer.error()
            now = time.monotonic()
            deadline = deadline or now + HOLD_SECONDS
            if now + pause > deadline:
                raise _unsure(failure)
            say(f"{str(failure).rstrip('.')}. Asking again in {pause:g} s")
            time.sleep(pause)
        raise AssertionError

    def _open_once(self, body: dict[str, Any]) -> Response:
        try:
            return self._server.call("POST", self._path, body or None, resend=Resend.UNAVAILABLE)
        except OutcomeUnknown as error:
            raise _unsure(error) from None


def open_secret(
    reader: SecretReader,
    link: ParsedLink,
    given: str | None,
    *,
    has_password: bool,
    not_there: Words = NOT_THERE,
) -> tuple[JsonObject, TextKeys | None]:
    """Return the response, still encrypted, and the keys of its text if the sender encrypted it.

    ``given`` is the password if it is known; otherwise this prompts for it, again after a wrong one.
    """
    while True:
        password = (given or ask_secret_password()) if has_password else None
        keys = derive_keys(link.fragment_key, password) if link.fragment_key else None
        answer = reader.open(keys.verifier if keys else password)
        if has_password and answer.code == "phrase_required" and given is None:
            continue
        if not has_password or answer.code != "incorrect_phrase":
            return answer.checked(not_there), keys
        left = answer.body.number("attempts_left")
        if left == 0:
            raise RequestRefused(
                "wrong password. That was the last attempt: the secret is destroyed", status=403, code=answer.code
            )
        words = f"wrong password; {left} {'attempt' if left == 1 else 'attempts'} left"
        if given is not None:
            raise RequestRefused(words, status=answer.status, code=answer.code)
        say(words)


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE)


def _refuses_key(answer: Response) -> bool:
    return answer.body.has("errors") and any(error.get("field") == "reader" for error in answer.body.records("errors"))


def _unsure(error: ClientError) -> OutcomeUnknown:
    said = str(error).rstrip(".")
    return OutcomeUnknown(
        f"{said}. Try to open it again; if it is gone, its text is lost: ask the sender for a new secret"
    )
