"""The types that a request is validated by and an answer is written with; OpenAPI is generated from the same."""

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import FieldError, Malformed

Body = TypeVar("Body", bound="RequestBody")

LONGEST_NAME = 64
# Where pydantic's own words name a Python type or leave open what to do.
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of this request; leave it out",
    "model_type": "must be a JSON object",
    "model_attributes_type": "must be a JSON object",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing_size": "is too large a number",
    "bool_type": "must be true or false",
}


class RequestBody(BaseModel):
    """A request's JSON object: nothing is converted, and unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


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


def parse_body(schema: type[Body], raw: bytes) -> Body:
    """Validate a request body. An empty one counts as ``{}``.

    Raises `Malformed` that names each field at fault and never repeats a value.
    """
    try:
        return schema.model_validate_json(raw or b"{}")
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        if any(problem["type"] == "json_invalid" for problem in problems):
            raise Malformed("The body is not JSON in UTF-8. Send a JSON object.") from None
        errors = tuple(FieldError(_path(p["loc"]), _REASONS.get(p["type"]) or _lowered(p["msg"])) for p in problems)
        raise Malformed(errors=errors) from None


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part)[:LONGEST_NAME] for part in location) or "body"


def _lowered(message: str) -> str:
    for opening in ("Value error, ", "Input should ", "String should ", "Value should "):
        message = message.removeprefix(opening)
    return ("must " + message) if message.startswith(("be ", "have ", "match ")) else message
