"""Shared by tests of the doctor: results by name, and servers with a given handler."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from src.manage.doctor.examination import Finding, Outcome, Status


async def collect(findings: AsyncIterator[Finding]) -> dict[str, Outcome]:
    """Run checks, and return their outcomes by name, in order."""
    return {finding.check: finding.outcome async for finding in findings}


def marks(outcomes: dict[str, Outcome], mark: Status) -> set[str]:
    """Return the names of the checks with a mark."""
    return {check for check, outcome in outcomes.items() if outcome.status is mark}


@asynccontextmanager
async def serving(answer: Callable[[web.Request], web.Response], listener: Any, **options: Any) -> AsyncIterator[None]:
    """Serve a handler for every path on a listening socket."""

    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.SockSite(runner, listener, **options).start()
        yield
    finally:
        await runner.cleanup()
