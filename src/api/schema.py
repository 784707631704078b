"""The types that a request is validated by and an answer is written with; OpenAPI is generated from the same."""

import re
from binascii import a2b_qp
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from itertools import islice
from typing import Annotated, Any, Self, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import from_json

from ..errors import MOST_ERRORS, FieldError, Malformed, Problem

Body = TypeVar("Body", bound="RequestBody")
Query = TypeVar("Query", bound="QueryParameters")
Model = TypeVar("Model", bound=BaseModel)

LONGEST_NAME = 64
MOST_FORM_FIELDS = 20
MOST_CONTAINERS = 1000
"""Objects and arrays that a body may have, in all: 2 bytes make one, and parsing one costs far more than its size."""
MOST_STRAY = 10_000
"""Per cent signs in a field of a form that begin no escape."""
_STRAY = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_UNREADABLE_FORM = f"The form cannot be parsed. Send at most {MOST_FORM_FIELDS} fields in UTF-8, or send JSON."
_NO_MARKS = bytes(set(range(256)) - set(b'"{['))
# Where pydantic's own words name a Python type or leave open what to do.
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
"""Takes 2.0 for the integer that it is to JSON Schema (Validation 2020-12, section 6.1.1). Comes last in a type."""


class RequestBody(BaseModel):
    """The JSON object of a request: types are not converted, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number")
    return value


DIGITS = BeforeValidator(_digits)
"""Takes a number of a query only in digits. Comes last in a type."""


class QueryParameters(BaseModel):
    """Query parameters: parsed from text, and unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False)


class Answer(BaseModel):
    """The JSON object of an answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemDetails(Answer):
    """An error as RFC 9457 problem details; ``Error`` repeats ``detail`` for clients of the older services."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"additionalProperties": True})

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    Error: str
    errors: list[dict[str, str]] | None = None

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
    """Validate a request body. An empty one counts as ``{}``.

    Raises `Malformed` that names the fields at fault, the first `MOST_ERRORS` of them, and never repeats a value.
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
    """Validate a body that a web form has sent, of which only the fields of ``form`` are known.

    Raises `Malformed`.
    """
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
    """Validate the parameters of a query, each of which may be there once. Raises `Malformed`."""
    if len(dict(parameters)) != len(parameters):
        raise Malformed("A query parameter is repeated. Send each parameter once.")
    return _validated(schema, dict(parameters))


class _Unknown:
    """Fields that a request does not know: the first of them, and how many there are."""

    def __init__(self) -> None:
        self.first: list[FieldError] = []
        self.count = 0

    def look(self, document: Mapping[str, object], fields: Mapping[str, object], location: tuple[str, ...]) -> None:
        """Add the fields of an object that are not among the known ones."""
        self.count += len(document) - sum(name in document for name in fields)
        names = (name for name in document if name not in fields)
        self.first += (
            FieldError(_path((*location, name)), _REASONS["extra_forbidden"])
            for name in islice(names, MOST_ERRORS - len(self.first))
        )


def _validated(schema: type[Model], document: object) -> Model:
    # pydantic makes an error for each unknown field, so it is not shown any: there may be a hundred thousand.
    unknown = _Unknown()
    known = _without_unknown(schema, document, unknown)
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
    """Return an object without the fields that a schema does not know, and those apart where it refuses them."""
    if not isinstance(document, dict):
        return document
    fields = _fields(schema)
    if schema.model_config.get("extra") == "forbid":
        unknown.look(document, fields, location)
    return {
        name: _without_unknown(nested, document[name], unknown, (*location, name)) if nested else document[name]
        for name, nested in fields.items()
        if name in document
    }


@cache
def _fields(schema: type[BaseModel]) -> Mapping[str, type[BaseModel] | None]:
    """Return the fields that a schema knows, by their names in a request, each with the schema of its object."""
    return {field.alias or name: _nested(field.annotation) for name, field in schema.model_fields.items()}


def _nested(annotation: object) -> type[BaseModel] | None:
    kinds = get_args(annotation) or (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _count_containers(raw: bytes) -> int:
    """Return how many objects and arrays a JSON text has, without parsing it."""
    openings = raw.count(b"{") + raw.count(b"[")
    if openings <= MOST_CONTAINERS:
        return openings
    # Most of them may be in strings: of these, only the quotation marks that end them are left.
    marks = raw.replace(rb"\\", b"").replace(rb"\"", b"").translate(None, _NO_MARKS)
    return sum(len(outside) for outside in marks.split(b'"')[::2])


def _unquoted(text: bytes) -> str:
    """Return a name or a value of a form. Raises `ValueError`.

    A quoted-printable text has the same escapes, led by another character, and its decoder is 50 times as fast as that
    of urllib, which takes a tenth of a second for 1 MiB of escapes.
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


# Documented as a minimum and refused by the rule on the sum, whose words name the limit.
Count = Annotated[int, Field(json_schema_extra={"minimum": 0}), WHOLE]


class TimeToLive(RequestBody):
    """A span of time: the sum of its parts."""

    days: Count = 0
    hours: Count = 0
    minutes: Count = 0
    seconds: Count = 0

    @property
    def span(self) -> timedelta:
        """The sum: `timedelta.max` for anything longer, and `timedelta.min` where a part is negative."""
        if min(self.days, self.hours, self.minutes, self.seconds) < 0:
            return timedelta.min
        seconds = ((self.days * 24 + self.hours) * 60 + self.minutes) * 60 + self.seconds
        return timedelta(seconds=min(seconds, timedelta.max // timedelta(seconds=1)))
