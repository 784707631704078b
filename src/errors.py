"""What can go wrong, each with its status and its stable machine word; knows nothing of HTTP frameworks."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import ClassVar

MOST_ERRORS = 20
"""Errors of fields that an answer lists."""


def describe_status(status: int) -> str:
    """Return the standard description of a status; its phrase where there is none."""
    return HTTPStatus(status).description or HTTPStatus(status).phrase


@dataclass(frozen=True)
class FieldError:
    """One field at fault: its dotted path in the body and the reason, which never repeats the value."""

    field: str
    reason: str


class Problem(Exception):
    """A failure that a client is told of, as RFC 9457 problem details.

    ``detail`` is for people and says what to do; ``extra`` holds further members of the answer, ``retry_after`` is in
    seconds. None of them may hold anything that a client sent, field names excepted.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Internal error"
    default: ClassVar[str] = "Something failed on the server. It has been logged under this request id."

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
    """The request cannot be understood or breaks a rule; without a detail of its own it tells of the first error.

    At most `MOST_ERRORS` of the errors are listed; ``unlisted`` is how many more there are than ``errors`` has.
    """

    status, code, title = 400, "malformed", "Malformed request"
    default = "The request is malformed. See errors for what to change."

    def __init__(self, detail: str | None = None, *, errors: tuple[FieldError, ...] = (), unlisted: int = 0) -> None:
        total, listed = len(errors) + unlisted, errors[:MOST_ERRORS]
        if errors and detail is None:
            detail = f"{errors[0].field}: {errors[0].reason}."
            if total > 1:
                detail += f" There are {total} errors in all."
            if total > len(listed):
                detail += f" The first {len(listed)} are listed, {total - len(listed)} more are not."
        super().__init__(detail, errors=listed)


class Unauthorized(Problem):
    """No credentials, or none that are valid."""

    status, code, title = 401, "unauthorized", "Unauthorized"
    default = "This request needs a token: send it as Authorization: Bearer <token>."

    def __init__(self, detail: str | None = None, *, challenge: str = 'Bearer realm="sealpost"') -> None:
        super().__init__(detail, headers={"WWW-Authenticate": challenge})


class Forbidden(Problem):
    """The request is understood and refused."""

    status, code, title = 403, "forbidden", "Forbidden"
    default = "This is not allowed."


class CrossSite(Problem):
    """A page of another site sends a request without the user's leave."""

    status, code, title = 403, "cross_site", "Forbidden"
    default = "A page of another site must not send this. Send the body as application/json, not from a foreign page."


class Misdirected(Problem):
    """The request is for another host."""

    status, code, title = 421, "misdirected", "Misdirected request"
    default = "This service does not answer under that host name. Use the address that its operator gives."


class NotFound(Problem):
    """Nothing is there, or no longer."""

    status, code, title = 404, "not_found", "Not found"
    default = "There is nothing at this address. GET /openapi.json lists what there is."


class MethodNotAllowed(Problem):
    """The address exists but not for this method; the answer's ``Allow`` header lists those that it has."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"
    default = "This address does not answer that method. The Allow header lists the ones that it answers."


class Conflict(Problem):
    """The request clashes with what is there already."""

    status, code, title = 409, "conflict", "Conflict"
    default = "This clashes with what is there already."


class Damaged(Problem):
    """What was there is damaged beyond reading."""

    status, code, title = 410, "damaged", "Damaged"
    default = "What was stored here is damaged and cannot be opened. Ask its sender to send it again."


class TooLarge(Problem):
    """The body is over the limit."""

    status, code, title = 413, "too_large", "Body too large"
    default = "The body is over 1 MiB. Send a smaller one."

    def __init__(self, *, limit: int = 1024 * 1024) -> None:
        super().__init__(self.default.replace("1 MiB", "1 MiB" if limit == 1024 * 1024 else f"{limit:,} bytes"))


class TooMany(Problem):
    """Too many requests at once, or too soon."""

    status, code, title = 429, "too_many", "Too many requests"
    default = "Too many requests. Try again after the seconds in Retry-After."


class StorageFull(Problem):
    """There is no room for new content; what is stored can be opened, read and deleted."""

    status, code, title = 507, "storage_full", "Storage full"
    default = "The storage of this service is full, so nothing new can be stored. What is stored can still be opened."


class Unavailable(Problem):
    """Something that the answer needs is not available now; the request may be sent again."""

    status, code, title = 503, "unavailable", "Unavailable"
    default = "The service cannot answer right now. Try again after the seconds in Retry-After."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        super().__init__(detail, retry_after=retry_after)
