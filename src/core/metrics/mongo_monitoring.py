"""Metrics of the MongoDB driver: its commands and connections. The driver may call listeners on any thread."""

from typing import Any

from pymongo import monitoring

from .catalogue import Metrics
from .instruments import Histogram

MICROSECOND = 1e-6


class CommandTimes(monitoring.CommandListener):
    """Records the duration of commands."""

    def __init__(self, metrics: Metrics) -> None:
        self._commands = metrics.mongo_commands
        self._known: dict[str, tuple[Histogram, Histogram]] = {}

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Do nothing: the end event has the duration."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Record a successful command."""
        self._of(event.command_name)[0].observe(event.duration_micros * MICROSECOND)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Record a command that was refused or not answered."""
        self._of(event.command_name)[1].observe(event.duration_micros * MICROSECOND)

    def _of(self, command: str) -> tuple[Histogram, Histogram]:
        known = self._known.get(command)
        if known is None:
            known = self._commands.child(command, "ok"), self._commands.child(command, "failed")
            self._known[command] = known
        return known


class Connections(monitoring.ConnectionPoolListener):
    """Counts open connections, and those in use."""

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
        """Do nothing: each connection has its own event."""

    def pool_closed(self, _: Any) -> None:
        """Do nothing: each connection has its own event."""

    def connection_ready(self, _: Any) -> None:
        """Do nothing."""

    def connection_check_out_started(self, _: Any) -> None:
        """Do nothing."""

    def connection_check_out_failed(self, _: Any) -> None:
        """Do nothing."""


def mongo_listeners(metrics: Metrics) -> list[Any]:
    """Return the ``event_listeners`` for a client; none if metrics are off."""
    return [CommandTimes(metrics), Connections(metrics)] if metrics.are_on else []
