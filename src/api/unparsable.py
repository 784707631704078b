"""What is not HTTP at all gets an answer in the shape of every other error.

aiohttp answers what its parser refuses before any middleware, in plain text that repeats the refused line, and logs
it; the line may hold a key. It has no hook for this, so its method is replaced.
"""

import secrets

import structlog
from aiohttp import web, web_protocol

from ..errors import Malformed, Problem
from .edge import security_headers
from .problems import problem_response

BAD_REQUEST = 400

log = structlog.get_logger(__name__)


def answer_in_our_shape() -> None:
    """Replace the answer of every server in this process; may be called again."""
    web_protocol.RequestHandler.handle_error = _handle_error  # type: ignore[method-assign,assignment]


def _handle_error(
    _: object,
    request: web.BaseRequest,
    status: int = 500,
    exc: BaseException | None = None,
    message: str | None = None,  # noqa: ARG001 (repeats what the client sent)
) -> web.StreamResponse:
    if request.writer.output_size > 0:
        raise ConnectionError("the answer has begun already")
    request_id = secrets.token_hex(16)
    log.warning("request refused by the parser", request_id=request_id, status=status, error=type(exc).__name__)
    problem = Malformed("This is not a well-formed HTTP request.") if status == BAD_REQUEST else Problem()
    response = problem_response(problem, request_id)
    response.headers.update({**security_headers(request), "X-Request-ID": request_id})
    response.force_close()
    return response
