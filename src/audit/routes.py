"""The audit over HTTP."""

from typing import Any

from aiohttp import hdrs, web

from ..accounts.guards import OperatorGuard
from ..api.routing import Route
from ..api.streaming import JSON_LINES, StreamedResponse
from ..api.times import parse_time
from ..errors import FieldError, Malformed
from .export import AuditExport
from .reader import Selection
from .schemas import AuditQuery, AuditRecord

AUDIT = "audit"


class AuditRoutes:
    """The handler and its declaration."""

    def __init__(self, export: AuditExport, guard: OperatorGuard) -> None:
        self._export = export
        self._guard = guard

    def routes(self) -> list[Route[Any]]:
        """Return the declaration."""
        return [
            Route(
                method="GET",
                path="/audit",
                tag=AUDIT,
                summary="Export the audit",
                description="For operators. One JSON object per line, oldest first. A body that ends without the final"
                " chunk is incomplete.",
                guard=self._guard,
                handler=self.audit,
                query=AuditQuery,
                lines=AuditRecord,
            )
        ]

    async def audit(self, _: web.Request, query: AuditQuery) -> StreamedResponse:
        """Export the audit."""
        since, until = (parse_time(text) if text else None for text in (query.since, query.until))
        if since and until and until < since:
            raise Malformed(errors=(FieldError("until", "must not be before since"),))
        users = None if query.user is None else await self._export.find_users(query.user)
        chunks = self._export.chunks(Selection(since, until, query.kind, users))
        return await StreamedResponse.begin(chunks, headers={hdrs.CONTENT_TYPE: JSON_LINES})
