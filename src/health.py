"""Whether this process is alive, and whether it can do its work now."""

from typing import Any, Literal

from aiohttp import web

from .api.routing import Route
from .api.schema import Answer
from .core.mongo import Mongo
from .errors import Unavailable


class Health(Answer):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(Answer):
    """The process can do its work."""

    status: Literal["ready"] = "ready"


class HealthRoutes:
    """The handlers and their declarations."""

    def __init__(self, mongo: Mongo) -> None:
        self._mongo = mongo

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/healthz",
                tag="operations",
                summary="Tell whether the process is alive",
                handler=self.healthz,
                answer=Health,
            ),
            Route(
                method="GET",
                path="/readyz",
                tag="operations",
                summary="Tell whether MongoDB and the keys can be used",
                handler=self.readyz,
                answer=Readiness,
            ),
        ]

    async def healthz(self, _: web.Request, __: None) -> Health:
        """Tell whether the process is alive."""
        return Health()

    async def readyz(self, _: web.Request, __: None) -> Readiness:
        """Tell whether MongoDB can be used; without usable keys the process would not have started."""
        if not await self._mongo.is_ready():
            raise Unavailable("The database does not answer yet. Try again after the seconds in Retry-After.")
        return Readiness()
