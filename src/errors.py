"""The errors that clients receive, each with its status and stable code; independent of any HTTP framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar

MOST_ERRORS = 20
"""Maximum number of field errors in a response."""


def describe_status(status: int) -> str:
    """Return the standard description of a status, or its reason phrase if there is none."""
    return HTTPStatus(status).description or HTTPStatus(status).phrase


@dataclass(frozen=True)
class FieldError:
    """An invalid field: its dotted path in the body and the reason, which never repeats the value."""

    field: str
    reason: str


class Problem(Exception):
    """A failure that is reported to the client as RFC 9457 problem details.

    ``detail`` is for people and suggests a remedy; ``extra`` adds members to the response; ``retry_after`` is in
    seconds. None of them may repeat client input, except field names.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    default: ClassVar[str] = "Internal server error. The server's log has an entry under this request id."

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: int | str,
    ) -> None:
        super().__init__(detail or self.default)
        self.detail = detail or self.default
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = extra
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


class Malformed(Problem):
    """The request cannot be parsed or is invalid; the default detail describes the first error.

    At most `MOST_ERRORS` errors are listed; ``unlisted`` is the number of errors that are not in ``errors``.
    """

    status, code, title = 400, "malformed", "Malformed request"
    default = "The request is malformed. Invalid fields are listed in errors."

    def __init__(self, detail: str | None = None, *, errors: tuple[FieldError, ...] = (), unlisted: int = 0) -> None:
        total, listed = len(errors) + unlisted, errors[:MOST_ERRORS]
        if errors and detail is None:
            detail = f"{errors[0].field}: {errors[0].reason}."
            if total > 1:
                detail += f" There are {total} errors in all."
            if total > len(listed):
                detail += f" The first {len(listed)} are listed; {total - len(listed)} more are not."
        super().__init__(detail, errors=listed)


class Unauthorized(Problem):
    """Missing or invalid credentials."""

    status, code, title = 401, "unauthorized", "Unauthorized"
    default = "This request requires a token. Send it as Authorization: Bearer <token>."

    def __init__(self, detail: str | None = None, *, challenge: str = 'Bearer realm="sealpost"') -> None:
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    """The client may not do this."""

    status, code, title = 403, "forbidden", "Forbidden"
    default = "You are not allowed to do this."


class CrossSite(Problem):
    """A page of another site sent the request, possibly without the user's consent."""

    status, code, title = 403, "cross_site", "Forbidden"
    default = "Cross-site request refused. Send it from this service's own page, or as application/json."


class Misdirected(Problem):
    """The request is for another host."""

    status, code, title = 421, "misdirected", "Misdirected request"
    default = "This service is not available under this host name. Use its public address."


class NotFound(Problem):
    """The resource does not exist, or no longer does."""

    status, code, title = 404, "not_found", "Not found"
    default = "This path does not exist. GET /openapi.json lists all paths."


class MethodNotAllowed(Problem):
    """The path does not support this method; the ``Allow`` header lists the supported methods."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    default = "This path does not support this method. The Allow header lists the supported ones."


class Conflict(Problem):
    """The request conflicts with existing data."""

    status, code, title = 409, "conflict", "Conflict"
    default = "This request conflicts with existing data."


class Damaged(Problem):
    """The stored data is damaged and cannot be read."""

    status, code, title = 410, "damaged", "Damaged"
    default = "The stored data is damaged and cannot be read. Ask the sender to send it again."


class TooLarge(Problem):
    """The body is over the limit."""

    status, code, title = 413, "too_large", "Body too large"
    default = "The body is over 1 MiB. Send a smaller one."

    def __init__(self, *, limit: int = 1024 * 1024) -> None:
        super().__init__(self.default.replace("1 MiB", "1 MiB" if limit == 1024 * 1024 else f"{limit:,} bytes"))


class RequestStalled(Problem):
    """The client sends its body too slowly, or has stopped."""

    status, code, title = 408, "stalled", "Request stalled"
    default = "The body arrives too slowly. Continue with a new request."


class UnsupportedMediaType(Problem):
    """The body has another media type than the route's."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"
    default = "The Content-Type of the body is not supported."


class TooMany(Problem):
    """The client sent too many requests."""

    status, code, title = 429, "too_many", "Too many requests"
    default = "Too many requests. Try again after the delay in Retry-After."


class StorageFull(Problem):
    """Storage is full, so no content can be created; stored content can still be opened, read and deleted."""

    status, code, title = 507, "storage_full", "Storage full"
    default = "The storage of this service is full: it accepts no new content. Stored content can still be opened."


class Unavailable(Problem):
    """A dependency is temporarily unavailable; the request may be retried."""

    status, code, title = 503, "unavailable", "Unavailable"
    default = "The service is temporarily unavailable. Try again after the delay in Retry-After."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after=retry_after)
