"""The command line: every check, one after the other."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Annotated

import typer
from yarl import URL

from ...core.logs import configure_logs
from ...settings import Settings
from .certificates import examine_certificate_files
from .configuration import Configuration
from .database import examine_database
from .disk import examine_disk
from .examination import examine
from .findings import Finding
from .front import examine_front
from .report import Report
from .workers import examine_workers


def _address(text: str) -> URL:
    """Read an address. Raises `typer.BadParameter`."""
    with suppress(ValueError):
        address = URL(text)
        if address.scheme in {"http", "https"} and address.host and not (address.query_string or address.fragment):
            return address
    raise typer.BadParameter("not an address such as https://secrets.example.org")


def doctor(
    *,
    url: Annotated[
        URL | None,
        typer.Option(
            "--url", metavar="URL", parser=_address, help="Public address to ask, in place of SEALPOST_PUBLIC_URL."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, one object a line.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Take a warning for a failure in the exit code.")] = False,
) -> None:
    """Tell whether the service is healthy, and what to do where it is not.

    Nothing is started for that, and nothing is left behind. The exit code is 1 where a check failed.
    """
    report = Report(as_json=as_json)
    asyncio.run(_report(report, url, os.environ))
    raise typer.Exit(report.code(strict=strict))


async def _report(report: Report, url: URL | None, environment: Mapping[str, str]) -> None:
    async for finding in examine_all(url, environment):
        report.show(finding)
    report.close()


async def examine_all(url: URL | None, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Carry out every check, and ask at the address if there is one."""
    configuration = Configuration(environment)
    async for finding in configuration.examine():
        yield finding
    settings = configuration.settings
    # Checks say themselves what is wrong.
    configure_logs((settings or Settings.model_construct()).model_copy(update={"log_level": "error"}), sys.stderr)
    if configuration.service is not None and configuration.service.log_dir:
        environment = {**environment, "LOG_DIR": configuration.service.log_dir}
    if "mongo_url" in configuration.unknown:
        reason = "the service has SEALPOST_MONGO_URL, which is not set here"
        checks = examine_database(None, None, reason=reason)
    else:
        checks = examine_database(settings, configuration.ring)
    async for finding in checks:
        yield finding
    async for finding in examine_disk(settings, environment):
        yield finding
    async for finding in examine_workers(settings, environment):
        yield finding
    yield await examine("certificate files", examine_certificate_files(settings, environment))
    async for finding in examine_front(_front(url, settings, environment)):
        yield finding


def _front(url: URL | None, settings: Settings | None, environment: Mapping[str, str]) -> URL | None:
    """Return the address to ask, if there is one. The workers' container has no way to the public one."""
    if url is not None or settings is None or settings.public_url is None or environment.get("RUN_DIR"):
        return url
    with suppress(typer.BadParameter):
        return _address(settings.public_url)
    return None
