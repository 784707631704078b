"""Errors on the wire: RFC 9457 problem details."""

from aiohttp import web

from ..errors import Malformed, MethodNotAllowed, NotFound, Problem, TooLarge
from .routing import json_response
from .schema import ProblemDetails

CONTENT_TYPE = "application/problem+json"


def problem_response(problem: Problem, request_id: str, schema: type[ProblemDetails] = ProblemDetails) -> web.Response:
    """Return the response for a problem; ``schema`` is the route's type of problem details."""
    details = schema.of(problem, request_id)
    response = json_response(
        details.model_dump_json(exclude_none=True).encode(), status=problem.status, content_type=CONTENT_TYPE
    )
    response.headers.update(problem.headers)
    return response


def from_http(error: web.HTTPException) -> Problem:
    """Return the problem for an error of the HTTP library."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        return MethodNotAllowed(headers={"Allow": ", ".join(sorted(error.allowed_methods))})
    if isinstance(error, web.HTTPNotFound):
        return NotFound()
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return TooLarge()
    return Malformed("The request is malformed. Check its headers.")


def from_unreadable(_: Exception) -> Problem:
    """Return the problem for a body that could not be read."""
    return Malformed("The body is truncated or does not match its headers. Send the request again.")
