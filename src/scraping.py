"""Metrics for Prometheus, available only from this host and through nginx's metrics server."""

import asyncio
from typing import Any

from aiohttp import web

from .api.origin import Origin
from .api.routing import Route
from .core.metrics import MEDIA_TYPE, Metrics
from .errors import NotFound


class ScrapeRoutes:
    """The handler and its declaration."""

    def __init__(self, metrics: Metrics, origin: Origin) -> None:
        self._metrics = metrics
        self._origin = origin
        self._collecting = asyncio.Lock()

    def routes(self) -> list[Route[Any]]:
        """Return the declaration."""
        return [
            Route(
                method="GET",
                path="/metrics",
                tag="operations",
                summary="Metrics of all workers",
                description="Prometheus text format. Not available through the public nginx server or over TCP from"
                " another host.",
                handler=self.metrics,
                text=MEDIA_TYPE,
                needs_database=False,
                problems=(NotFound,),
            )
        ]

    async def metrics(self, request: web.Request, _: None) -> str:
        """Return the metrics of all workers."""
        if not self._metrics.are_on or not self._origin.is_local(request):
            raise NotFound
        # One scrape at a time, in a thread, so that it does not block other requests.
        async with self._collecting:
            return await asyncio.to_thread(self._metrics.collect)
