"""The types that validate requests and serialize answers, from which OpenAPI is generated."""

import re
from binascii import a2b_qp
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from itertools import islice
from typing import Annotated, Any, NamedTuple, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ..errors import MOST_ERRORS, FieldError, Malformed, Problem

Body = TypeVar("Body", bound="RequestBody")
Query = TypeVar("Query", bound="QueryParameters")
Model = TypeVar("Model", bound=BaseModel)

LONGEST_NAME = 64
MOST_FORM_FIELDS = 20
MOST_CONTAINERS = 1000
"""Maximum number of objects and arrays in a body: each needs only 2 bytes, but costs far more to parse."""
MOST_STRAY = 10_000
"""Maximum number of percent signs in a form field that do not begin an escape."""
_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNREADABLE_FORM = f"The form cannot be parsed. Send at most {MOST_FORM_FIELDS} fields in UTF-8, or send JSON."
_NO_MARKS = bytes(set(range(256)) - set(b'"{['))
# Replace messages of pydantic that name a Python type or suggest no remedy.
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is unknown; remove it",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing_size": "is too large",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Accepts 2.0, an integer in JSON Schema (Validation 2020-12, section 6.1.1). Must come last in a type."""


class RequestBody(BaseModel):
    """The JSON object of a request: types are not converted, and unknown fields are rejected."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number")
    return value


DIGITS = BeforeValidator(_digits)
"""Accepts a number in a query only in digits. Must come last in a type."""


def example(fields: dict[str, Any], **schema: Any) -> ConfigDict:
    """Return a configuration of a type with an example, and further keywords of its schema, for the documentation.

    A text that begins with ``$`` stands for a value from an earlier response.
    """
    return ConfigDict(json_schema_extra={"examples": [fields], **schema})


class QueryParameters(BaseModel):
    """Query parameters: parsed from text, and unknown ones are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False)


class Answer(BaseModel):
    """The JSON object of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemDetails(Answer):
    """An error as RFC 9457 problem details; ``Error`` repeats ``detail`` for clients of the older services."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": True})

    type: str = Field(description="Always `about:blank`.")
    title: str = Field(description="The kind of error, for people.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="A description for people. It may change.")
    code: str = Field(description="A stable identifier for programs.")
    request_id: str = Field(description="The same id as in the header X-Request-ID and in the log of the server.")
    Error: str = Field(description="The same as `detail`, for clients of older services.")
    errors: list[dict[str, str]] | None = Field(
        None, description="With status 400 only: the invalid fields or parameters, each with a reason."
    )

    @classmethod
    def of(cls, problem: Problem, request_id: str, **members: Any) -> Self:
        """Return the details of a problem; subclasses add members."""
        return cls(
            type="about:blank",
            title=problem.title,
            status=problem.status,
            detail=problem.detail,
            code=problem.code,
            request_id=request_id,
            Error=problem.detail,
            errors=[{"field": error.field, "reason": error.reason} for error in problem.errors] or None,
            **{**problem.extra, **members},
        )


def parse_body(schema: type[Body], raw: bytes) -> Body:
    """Validate a request body; an empty body counts as ``{}``.

    Raises `Malformed`, which names the first `MOST_ERRORS` invalid fields and never repeats a value.
    """
    if _count_containers(raw) > MOST_CONTAINERS:
        raise Malformed(f"The body contains more than {MOST_CONTAINERS} objects and arrays. Send fewer.")
    try:
        document = from_json(raw or b"{}", cache_strings=False)
    except ValueError as error:
        if str(error).startswith("recursion limit"):
            raise Malformed("The body is nested too deeply.") from None
        raise Malformed("The body is not valid JSON in UTF-8. Send a JSON object.") from None
    return _validated(schema, document)


def parse_form(form: type[RequestBody], schema: type[Body], raw: bytes) -> Body:
    """Validate the body of a web form, which may contain only the fields of ``form``. Raises `Malformed`."""
    fields = raw.split(b"&", MOST_FORM_FIELDS)
    if len(fields) > MOST_FORM_FIELDS:
        raise Malformed(_UNREADABLE_FORM)
    try:
        parts = [field.partition(b"=") for field in fields if field]
        pairs = [(_unquoted(name), _unquoted(value)) for name, _, value in parts]
    except ValueError:
        raise Malformed(_UNREADABLE_FORM) from None
    if len(dict(pairs)) != len(pairs):
        raise Malformed("The form repeats a field. Send each field once.")
    return _validated(schema, _validated(form, dict(pairs)).model_dump())


def parse_query(schema: type[Query], parameters: Sequence[tuple[str, str]]) -> Query:
    """Validate query parameters, each of which may occur once. Raises `Malformed`."""
    if len(dict(parameters)) != len(parameters):
        raise Malformed("A query parameter is repeated. Send each parameter once.")
    return _validated(schema, dict(parameters))


class _Unknown:
    """Unknown fields of a request: the first `MOST_ERRORS` of them, and their number."""

    def __init__(self) -> None:
        self.first: list[FieldError] = []
        self.count = 0

    def look(self, document: Mapping[str, object], fields: Mapping[str, object], location: tuple[str, ...]) -> None:
        """Add the unknown fields of an object."""
        self.count += len(document) - sum(name in document for name in fields)
        names = (name for name in document if name not in fields)
        self.first += (
            FieldError(_path((*location, name)), _REASONS["extra_forbidden"])
            for name in islice(names, MOST_ERRORS - len(self.first))
        )


def _validated(schema: type[Model], document: object) -> Model:
    # Unknown fields are removed first: pydantic creates an error for each, and there may be 100,000.
    unknown = _Unknown()
    is_plain = isinstance(document, dict) and document.keys() <= _plain_fields(schema)
    known = document if is_plain else _without_unknown(schema, document, unknown)
    try:
        validated = schema.model_validate(known)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        errors = tuple(
            FieldError(_path(p["loc"]), _REASONS.get(p["type"]) or _lowered(p["msg"])) for p in problems[:MOST_ERRORS]
        )
        unlisted = len(problems) - len(errors) + unknown.count - len(unknown.first)
        raise Malformed(errors=(*errors, *unknown.first), unlisted=unlisted) from None
    if unknown.count:
        raise Malformed(errors=tuple(unknown.first), unlisted=unknown.count - len(unknown.first))
    return validated


def _without_unknown(
    schema: type[BaseModel], document: object, unknown: _Unknown, location: tuple[str, ...] = ()
) -> object:
    """Return an object without its unknown fields; collect them in ``unknown`` if the schema forbids them."""
    if not isinstance(document, dict):
        return document
    fields = _fields(schema)
    if schema.model_config.get("extra") == "forbid":
        unknown.look(document, fields, location)
    return {
        name: nested.without_unknown(document[name], unknown, (*location, name)) if nested else document[name]
        for name, nested in fields.items()
        if name in document
    }


class _Nested(NamedTuple):
    """The schema of the objects in a field, which may be a list of them."""

    schema: type[BaseModel]
    is_list: bool

    def without_unknown(self, value: object, unknown: _Unknown, location: tuple[str, ...]) -> object:
        if not self.is_list:
            return _without_unknown(self.schema, value, unknown, location)
        if not isinstance(value, list):
            return value
        return [
            _without_unknown(self.schema, one, unknown, (*location, str(position)))
            for position, one in enumerate(value)
        ]


@cache
def _fields(schema: type[BaseModel]) -> Mapping[str, _Nested | None]:
    """Return the fields of a schema by their names in a request, each with its nested schema, if any."""
    return {field.alias or name: _nested(field.annotation) for name, field in schema.model_fields.items()}


@cache
def _plain_fields(schema: type[BaseModel]) -> frozenset[str]:
    """Return the fields of a schema without a nested schema."""
    return frozenset(name for name, nested in _fields(schema).items() if nested is None)


def _nested(annotation: object) -> _Nested | None:
    kinds = get_args(annotation) or (annotation,)
    schema = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return _Nested(schema, get_origin(annotation) is list) if schema else None


def _count_containers(raw: bytes) -> int:
    """Count the objects and arrays of a JSON text without parsing it."""
    openings = raw.count(b"{") + raw.count(b"[")
    if openings <= MOST_CONTAINERS:
        return openings
    # The brackets may be in strings: keep only brackets and the quotation marks that delimit strings.
    marks = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS)
    return len(b"".join(marks.split(b'"')[::2]))


def _unquoted(text: bytes) -> str:
    """Decode a name or a value of a form. Raises `ValueError`.

    Quoted-printable has the same escapes with another prefix, and its decoder is 50 times as fast as urllib's, which
    needs 100 ms for 1 MiB of escapes.
    """
    text, stray = _STRAY.subn(b"%25", text, MOST_STRAY)
    if stray == MOST_STRAY:
        raise ValueError
    return a2b_qp(text.replace(b"+", b" ").replace(b"=", b"=3D").replace(b"%", b"=")).decode()


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in location) or "body"


def _lowered(message: str) -> str:
    for opening in ("Value error, ", "Input should ", "String should ", "Value should "):
        message = message.removeprefix(opening)
    return ("must " + message) if message.startswith(("be ", "have ", "match ")) else message


# The minimum is only documented: the check of the sum rejects negative parts, and its message names the limit.
Count = Annotated[int, Field(json_schema_extra={"minimum": 0}), WHOLE]


class TimeToLive(RequestBody):
    """A span of time: the sum of its parts."""

    days: Count = Field(0, description="Days.")
    hours: Count = Field(0, description="Hours.")
    minutes: Count = Field(0, description="Minutes.")
    seconds: Count = Field(0, description="Seconds.")

    @property
    def span(self) -> timedelta:
        """The sum of the parts, at most `timedelta.max`; `timedelta.min` if a part is negative."""
        if min(self.days, self.hours, self.minutes, self.seconds) < 0:
            return timedelta.min
        seconds = ((self.days * 24 + self.hours) * 60 + self.minutes) * 60 + self.seconds
        return timedelta(seconds=min(seconds, timedelta.max // timedelta(seconds=1)))
