"""Liveness and readiness."""

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, Protocol

from aiohttp import web
from pydantic import Field

from .api.routing import Route
from .api.schema import Answer
from .core.database.mongo import Mongo
from .errors import Unavailable


class Health(Answer):
    """The process is alive."""

    status: Literal["ok"] = Field("ok", description="The process is alive.")


_ALIVE = Health()


class DumpFailure(Protocol):
    """The reason why the dump file cannot be written, and since when."""

    @property
    def since(self) -> datetime:
        """Time of the first failure."""

    @property
    def reason(self) -> str:
        """Error message of the operating system."""


class Behind(Answer):
    """The time since when the dump is behind, and the reason."""

    since: datetime = Field(description="When the first write failed.")
    reason: str = Field(description="The error message of the operating system.")


class Readiness(Answer):
    """The process can serve requests.

    ``dump`` is present while the dump file cannot be written, ``creating`` while storage is full.
    """

    status: Literal["ready"] = Field("ready", description="The process can serve requests.")
    dump: Behind | None = Field(
        None, exclude_if=lambda behind: behind is None, description="Present while the dump file cannot be written."
    )
    creating: Literal["paused"] | None = Field(
        None, exclude_if=lambda creating: creating is None, description="Present while storage is full."
    )


class HealthRoutes:
    """The handlers and their declarations."""

    def __init__(
        self, mongo: Mongo, *, dump_failure: Callable[[], DumpFailure | None], creating_is_paused: Callable[[], bool]
    ) -> None:
        self._mongo = mongo
        self._dump_failure = dump_failure
        self._creating_is_paused = creating_is_paused

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/healthz",
                tag="operations",
                summary="Check whether the process is alive",
                handler=self.healthz,
                answer=Health,
                needs_database=False,
            ),
            Route(
                method="GET",
                path="/readyz",
                tag="operations",
                summary="Check whether MongoDB and the keys are usable",
                handler=self.readyz,
                answer=Readiness,
                needs_database=False,
            ),
        ]

    async def healthz(self, _: web.Request, __: None) -> Health:
        """Tell whether the process is alive."""
        return _ALIVE

    async def readyz(self, _: web.Request, __: None) -> Readiness:
        """Tell whether MongoDB and the keys can be used."""
        if self._mongo.unfit is not None:
            raise Unavailable(str(self._mongo.unfit))
        if not await self._mongo.is_ready():
            raise Unavailable("The database does not answer yet. Try again after the delay in Retry-After.")
        failure = self._dump_failure()
        return Readiness(
            dump=Behind(since=failure.since, reason=failure.reason) if failure else None,
            creating="paused" if self._creating_is_paused() else None,
        )
