"""Responses, parsed without trust: anything may be listening at the URL."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from .durations import in_words
from .errors import ClientError, NotSealpost, NotSignedIn, RequestRefused, Unreachable

Words = Mapping[str, str]
NO_WORDS: Words = {}
NO_HEADERS: Mapping[str, str] = {}
_LONGEST_NUMBER = 18
NO_GOOD_TOKEN = frozenset({"unauthorized", "invalid_token"})


class JsonObject(dict[str, Any]):
    """A JSON object from a server. Each method raises `NotSealpost` if the member is missing or has another type."""

    def text(self, name: str) -> str:
        """Return a string."""
        return str(self._member(name, str))

    def number(self, name: str) -> int:
        """Return an integer."""
        return int(self._member(name, int))

    def flag(self, name: str) -> bool:
        """Return a boolean."""
        return bool(self._member(name, bool))

    def moment(self, name: str) -> datetime:
        """Return a time in the local time zone."""
        try:
            moment = datetime.fromisoformat(self.text(name))
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone()
        except (ValueError, OverflowError):
            raise NotSealpost(f"the response is not from Sealpost: {name} is not a time") from None

    def has(self, name: str) -> bool:
        """Return whether a member is present and not null."""
        return self.get(name) is not None

    def records(self, name: str) -> list["JsonObject"]:
        """Return a list of objects."""
        items = self._member(name, list)
        if not all(isinstance(item, dict) for item in items):
            raise NotSealpost(f"the response is not from Sealpost: {name} is not a list of objects")
        return [JsonObject(item) for item in items]

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        items: list[str] = self._member(name, list)
        if not all(isinstance(item, str) for item in items):
            raise NotSealpost(f"the response is not from Sealpost: {name} is not a list of strings")
        return items

    def _member(self, name: str, kind: type[Any]) -> Any:
        value = self.get(name)
        if type(value) is not kind:
            raise NotSealpost(f"the response is not from Sealpost: {name} is missing or has the wrong type")
        return value

    def __repr__(self) -> str:
        return "JsonObject(…)"


@dataclass(frozen=True)
class Response:
    """A status and a JSON object, which is empty if the response has no body.

    ``retry_after`` is in seconds, None if absent. ``after_loss`` means that an earlier attempt lost its connection, so
    the request may already have been carried out.
    """

    url: str
    status: int
    body: JsonObject = field(repr=False)
    is_json: bool = True
    retry_after: int | None = None
    after_loss: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx and the body is JSON."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES and self.is_json

    def header_number(self, name: str) -> int:
        """Return a header that is a number. Raises `NotSealpost`."""
        text = self.headers.get(name, "")
        if not (text.isascii() and text.isdecimal()) or len(text) > _LONGEST_NUMBER:
            raise NotSealpost(f"the response is not from Sealpost: {name} is missing or not a number")
        return int(text)

    @property
    def code(self) -> str:
        """The problem's `code`; empty if there is none."""
        code = self.body.get("code")
        return code if isinstance(code, str) else ""

    def checked(self, words: Words = NO_WORDS) -> JsonObject:
        """Return the body of a success. Raises `RequestRefused`, `NotSignedIn`, `Unreachable` or `NotSealpost`."""
        if self.ok:
            return self.body
        raise self.error(words)

    def error(self, words: Words = NO_WORDS) -> ClientError:
        """Return an error for the user. ``words`` replace the server's text for a code."""
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            said = self._said() or _phrase(self.status)
            return Unreachable(self._with_wait(f"{self.url} cannot answer now ({self.status}): {said}"))
        if not self.code:
            return NotSealpost(f"{self.url} did not answer like a Sealpost server (status {self.status})")
        if self.status == HTTPStatus.UNAUTHORIZED and self.code in NO_GOOD_TOKEN:
            return NotSignedIn(self._said())
        return RequestRefused(self._with_wait(words.get(self.code) or self._said()), status=self.status, code=self.code)

    def _said(self) -> str:
        """Return the problem's field errors, or else its detail."""
        detail = self.body.get("detail")
        said = detail if isinstance(detail, str) else self.code
        errors = self.body.get("errors")
        found = [error for error in errors if isinstance(error, Mapping)] if isinstance(errors, list) else []
        fields = [f"{error.get('field')}: {error.get('reason')}" for error in found]
        return "; ".join(fields) or said

    def _with_wait(self, said: str) -> str:
        return f"{said.rstrip('.')}. Try again in {in_words(self.retry_after)}" if self.retry_after else said


def _phrase(status: int) -> str:
    """Return the standard reason phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def parse_body(raw: bytes) -> JsonObject | None:
    """Return the JSON object in a body, empty if there is no body; None if the body is something else."""
    if not raw:
        return JsonObject()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return JsonObject(body) if isinstance(body, dict) else None
