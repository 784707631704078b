"""What the driver of MongoDB tells of its commands and connections, counted. It may tell it on any thread."""

from typing import Any

from pymongo import monitoring

from .catalogue import Metrics
from .instruments import Histogram

MICROSECOND = 1e-6


class CommandTimes(monitoring.CommandListener):
    """Counts commands by the time that they took."""

    def __init__(self, metrics: Metrics) -> None:
        self._commands = metrics.mongo_commands
        self._known: dict[str, tuple[Histogram, Histogram]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: the end tells how long it took."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count a command that MongoDB has carried out."""
        self._of(event.command_name)[0].observe(event.duration_micros * MICROSECOND)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count a command that was refused, or has no answer."""
        self._of(event.command_name)[1].observe(event.duration_micros * MICROSECOND)

    def _of(self, command: str) -> tuple[Histogram, Histogram]:
        known = self._known.get(command)
        if known is None:
            known = self._commands.child(command, "ok"), self._commands.child(command, "failed")
            self._known[command] = known
        return known


class Connections(monitoring.ConnectionPoolListener):
    """Counts the connections that are open, and those of them that are in use."""

    def __init__(self, metrics: Metrics) -> None:
        self._open = metrics.mongo_connections.child("open")
        self._in_use = metrics.mongo_connections.child("in_use")

    def connection_created(self, _: Any) -> None:
        """Count one more."""
        self._open.inc()

    def connection_closed(self, _: Any) -> None:
        """Count one less."""
        self._open.dec()

    def connection_checked_out(self, _: Any) -> None:
        """Count one more in use."""
        self._in_use.inc()

    def connection_checked_in(self, _: Any) -> None:
        """Count one less in use."""
        self._in_use.dec()

    def pool_created(self, _: Any) -> None:
        """Do nothing."""

    def pool_ready(self, _: Any) -> None:
        """Do nothing."""

    def pool_cleared(self, _: Any) -> None:
        """Do nothing: each of its connections is told of by itself."""

    def pool_closed(self, _: Any) -> None:
        """Do nothing: each of its connections is told of by itself."""

    def connection_ready(self, _: Any) -> None:
        """Do nothing."""

    def connection_check_out_started(self, _: Any) -> None:
        """Do nothing."""

    def connection_check_out_failed(self, _: Any) -> None:
        """Do nothing."""


def mongo_listeners(metrics: Metrics) -> list[Any]:
    """Return what to give to a client as its ``event_listeners``; none where nothing is counted."""
    return [CommandTimes(metrics), Connections(metrics)] if metrics.are_on else []
