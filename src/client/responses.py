"""What a server has answered, read without trust: it may be anything that listens there."""

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
NO_GOOD_TOKEN = frozenset({"unauthorized", "invalid_token"})


class JsonObject(dict[str, Any]):
    """A JSON object from a server. Each method raises `NotSealpost` for a member that is not what it has to be."""

    def text(self, name: str) -> str:
        """Return a string."""
        return str(self._member(name, str))

    def number(self, name: str) -> int:
        """Return a whole number."""
        return int(self._member(name, int))

    def flag(self, name: str) -> bool:
        """Return true or false."""
        return bool(self._member(name, bool))

    def moment(self, name: str) -> datetime:
        """Return a time, in the zone of this machine."""
        try:
            moment = datetime.fromisoformat(self.text(name))
            return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone()
        except (ValueError, OverflowError):
            raise NotSealpost(f"the answer is not one of Sealpost: {name} is no time") from None

    def has(self, name: str) -> bool:
        """Tell whether a member is there and not null."""
        return self.get(name) is not None

    def records(self, name: str) -> list["JsonObject"]:
        """Return a list of objects."""
        items = self._member(name, list)
        if not all(isinstance(item, dict) for item in items):
            raise NotSealpost(f"the answer is not one of Sealpost: {name} does not list objects")
        return [JsonObject(item) for item in items]

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        items: list[str] = self._member(name, list)
        if not all(isinstance(item, str) for item in items):
            raise NotSealpost(f"the answer is not one of Sealpost: {name} does not list strings")
        return items

    def _member(self, name: str, kind: type[Any]) -> Any:
        value = self.get(name)
        if type(value) is not kind:
            raise NotSealpost(f"the answer is not one of Sealpost: {name} is missing or of another type")
        return value

    def __repr__(self) -> str:
        return "JsonObject(…)"


@dataclass(frozen=True)
class Response:
    """A status with its JSON body, which is empty where there was none.

    ``retry_after`` is in seconds; None where the server did not say. ``after_loss`` tells that an earlier try of the
    same request lost its connection, so that it may have been carried out already.
    """

    url: str
    status: int
    body: JsonObject = field(repr=False)
    is_json: bool = True
    retry_after: int | None = None
    after_loss: bool = False

    @property
    def ok(self) -> bool:
        """Whether the request was carried out."""
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES and self.is_json

    @property
    def code(self) -> str:
        """The problem's word for programs; empty where there is none."""
        code = self.body.get("code")
        return code if isinstance(code, str) else ""

    def checked(self, words: Words = NO_WORDS) -> JsonObject:
        """Return the body of a success. Raises `RequestRefused`, `NotSignedIn`, `Unreachable` or `NotSealpost`."""
        if self.ok:
            return self.body
        raise self.error(words)

    def error(self, words: Words = NO_WORDS) -> ClientError:
        """Return what the answer means for the one who asked; ``words`` say it for a code better than the server."""
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            said = self._said() or _phrase(self.status)
            return Unreachable(self._with_wait(f"{self.url} cannot answer now ({self.status}): {said}"))
        if not self.code:
            return NotSealpost(f"what answers at {self.url} is not Sealpost, or not all of it (status {self.status})")
        if self.status == HTTPStatus.UNAUTHORIZED and self.code in NO_GOOD_TOKEN:
            return NotSignedIn(self._said())
        return RequestRefused(self._with_wait(words.get(self.code) or self._said()), status=self.status, code=self.code)

    def _said(self) -> str:
        """Return the problem's sentence, with each field at fault."""
        detail = self.body.get("detail")
        said = detail if isinstance(detail, str) else self.code
        errors = self.body.get("errors")
        found = [error for error in errors if isinstance(error, Mapping)] if isinstance(errors, list) else []
        fields = [f"{error.get('field')}: {error.get('reason')}" for error in found]
        return "; ".join(fields) or said

    def _with_wait(self, said: str) -> str:
        return f"{said.rstrip('.')}. Try again in {in_words(self.retry_after)}" if self.retry_after else said


def _phrase(status: int) -> str:
    """Return the standard's words for a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"


def parse_body(raw: bytes) -> JsonObject | None:
    """Return the JSON object of a body, an empty one for none; None where it is something else."""
    if not raw:
        return JsonObject()
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return JsonObject(body) if isinstance(body, dict) else None
