"""The command ``doctor``: run every check and print the findings."""

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text
from yarl import URL

from ...core.logs import configure_logs
from ...settings import Settings
from ..output import say, show_line
from .certificates import examine_certificate_files
from .configuration import Configuration
from .database import examine_database
from .disk import examine_disk
from .examination import Finding, Status, examine
from .front import examine_front
from .workers import examine_workers

_STYLES = {Status.OK: "green", Status.WARNING: "yellow", Status.FAILED: "bold red", Status.NOT_CHECKED: "dim"}
_STATUS_WIDTH = max(map(len, Status)) + 2
_CHECK_WIDTH = 18


class FindingPrinter:
    """Prints each finding as it arrives: a line, and a line of advice; with ``as_json``, one object per line."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(markup=False, emoji=False, highlight=False)
        self._counts = Counter[Status]()

    def show(self, finding: Finding) -> None:
        """Print a finding."""
        outcome = finding.outcome
        self._counts[outcome.status] += 1
        if self._as_json:
            record = {"check": finding.check, "mark": outcome.status, "found": outcome.found, "advice": outcome.advice}
            show_line(json.dumps(record))
            return
        line = Text(f"{outcome.status:<{_STATUS_WIDTH}}", style=_STYLES[outcome.status])
        line.append(f"{finding.check:<{_CHECK_WIDTH}}{outcome.found}", style="not bold not dim default")
        if outcome.advice:
            line.append(f"\n{'':<{_STATUS_WIDTH + _CHECK_WIDTH}}{outcome.advice}", style="not bold default")
        # Unwrapped, so that a path can be copied from the terminal.
        self._console.print(line, soft_wrap=True)

    def close(self) -> None:
        """Print the number of findings by status to stderr."""
        say("; ".join(f"{status}: {self._counts[status]}" for status in Status))

    def code(self, *, strict: bool) -> int:
        """Return the exit code: 1 if a check failed, or with ``strict`` if there was a warning."""
        return int(bool(self._counts[Status.FAILED] or (strict and self._counts[Status.WARNING])))


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
            "--url", metavar="URL", parser=_address, help="Public address to check instead of SEALPOST_PUBLIC_URL."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON, one object per line.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings, too.")] = False,
) -> None:
    """Check whether the service is healthy, and suggest fixes.

    Starts nothing and leaves nothing behind. The exit code is 1 if a check failed.
    """
    report = FindingPrinter(as_json=as_json)
    asyncio.run(_report(report, url, os.environ))
    raise typer.Exit(report.code(strict=strict))


async def _report(report: FindingPrinter, url: URL | None, environment: Mapping[str, str]) -> None:
    async for finding in examine_all(url, environment):
        report.show(finding)
    report.close()


async def examine_all(url: URL | None, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Run every check, including those of the public address if there is one."""
    configuration = Configuration(environment)
    async for finding in configuration.examine():
        yield finding
    settings = configuration.settings
    # The checks report problems themselves.
    configure_logs((settings or Settings.model_construct()).model_copy(update={"log_level": "error"}), sys.stderr)
    if configuration.service is not None and configuration.service.log_dir:
        environment = {**environment, "LOG_DIR": configuration.service.log_dir}
    if "mongo_url" in configuration.unknown:
        reason = "the service uses SEALPOST_MONGO_URL, which is not set here"
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
    async for finding in examine_front(_public_address(url, settings, environment)):
        yield finding


def _public_address(url: URL | None, settings: Settings | None, environment: Mapping[str, str]) -> URL | None:
    """Return the address to check, if any. The workers' container cannot reach the public address."""
    if url is not None or settings is None or settings.public_url is None or environment.get("RUN_DIR"):
        return url
    with suppress(typer.BadParameter):
        return _address(settings.public_url)
    return None
