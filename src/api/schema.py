"""The types that a request is validated by and an answer is written with; OpenAPI is generated from the same."""

from collections.abc import Sequence
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from ..errors import FieldError, Malformed, Problem

Body = TypeVar("Body", bound="RequestBody")
Query = TypeVar("Query", bound="QueryParameters")

LONGEST_NAME = 64
MOST_FORM_FIELDS = 20
# Where pydantic's own words name a Python type or leave open what to do.
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not known to this request; leave it out",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "int_parsing": "must be a whole number",
    "bool_type": "must be true or false",
}


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""Takes 2.0 for the integer that it is to JSON Schema (Validation 2020-12, section 6.1.1). Comes last in a type."""


class RequestBody(BaseModel):
    """A request's JSON object: nothing is converted, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _digits(value: object) -> object:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number")
    return value


DIGITS = BeforeValidator(_digits)
"""Takes a number of a query only in digits. Comes last in a type."""


class QueryParameters(BaseModel):
    """The parameters after the ``?`` of a path: read from text, and unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, populate_by_name=False)


class Answer(BaseModel):
    """An answer's JSON object."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ProblemDetails(Answer):
    """An error, as RFC 9457 problem details; ``Error`` repeats ``detail`` for clients of the older services."""

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
        """Return what a client is told of a problem; a route's own kind of details adds members."""
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

    Raises `Malformed` that names each field at fault and never repeats a value.
    """
    try:
        return schema.model_validate_json(raw or b"{}")
    except ValidationError as error:
        raise _malformed(error) from None


def parse_form(form: type[RequestBody], schema: type[Body], raw: bytes) -> Body:
    """Validate a body that a web form has sent, of which only the fields of ``form`` are known.

    Raises `Malformed`.
    """
    try:
        fields = parse_qsl(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=MOST_FORM_FIELDS)
    except ValueError:
        raise Malformed(f"The form cannot be read. Send up to {MOST_FORM_FIELDS} fields in UTF-8, or JSON.") from None
    if len(dict(fields)) != len(fields):
        raise Malformed("The form has a field twice. Send each field once.")
    try:
        return schema.model_validate(form.model_validate(dict(fields)).model_dump())
    except ValidationError as error:
        raise _malformed(error) from None


def parse_query(schema: type[Query], parameters: Sequence[tuple[str, str]]) -> Query:
    """Validate the parameters of a query, each of which may be there once. Raises `Malformed`."""
    if len(dict(parameters)) != len(parameters):
        raise Malformed("A query parameter is there twice. Send each one once.")
    try:
        return schema.model_validate(dict(parameters))
    except ValidationError as error:
        raise _malformed(error) from None


def _malformed(error: ValidationError) -> Malformed:
    problems = error.errors(include_input=False, include_url=False)
    if any(problem["type"] == "json_invalid" for problem in problems):
        return Malformed("The body is not JSON in UTF-8. Send a JSON object.")
    return Malformed(
        errors=tuple(FieldError(_path(p["loc"]), _REASONS.get(p["type"]) or _lowered(p["msg"])) for p in problems)
    )


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in location) or "body"


def _lowered(message: str) -> str:
    for opening in ("Value error, ", "Input should ", "String should ", "Value should "):
        message = message.removeprefix(opening)
    return ("must " + message) if message.startswith(("be ", "have ", "match ")) else message
