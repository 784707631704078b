"""Receipts over HTTP: the same for secrets and messages."""

from typing import Any

from aiohttp import web

from ..api.routing import Route
from ..errors import Damaged
from .problems import KeyNotFound
from .receipts import ReceiptService
from .schemas import ReceiptAnswer

RECEIPTS = "receipts"


class ReceiptRoutes:
    """The handlers and their declarations."""

    def __init__(self, service: ReceiptService) -> None:
        self._service = service

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/receipts/{receipt_key}",
                tag=RECEIPTS,
                summary="Get the state of a secret or message",
                handler=self.receipt,
                answer=ReceiptAnswer,
                problems=(KeyNotFound, Damaged),
            ),
            Route(
                method="DELETE",
                path="/receipts/{receipt_key}",
                tag=RECEIPTS,
                summary="Burn a secret or message",
                handler=self.burn,
                status=204,
                problems=(KeyNotFound,),
            ),
        ]

    async def receipt(self, request: web.Request, _: None) -> ReceiptAnswer:
        """Return the state of an item."""
        outcome = await self._service.outcome(request.match_info["receipt_key"])
        return ReceiptAnswer(
            state=outcome.state,
            created_at=outcome.created_at,
            expires_at=outcome.expires_at,
            opened_at=outcome.opened_at,
            opens_left=outcome.opens_left,
            failed_attempts=outcome.failed_attempts,
        )

    async def burn(self, request: web.Request, _: None) -> None:
        """Burn an item."""
        await self._service.burn(request.match_info["receipt_key"])
