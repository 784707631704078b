"""Restarts the embedded MongoDB when it ends while a process uses it."""

import threading
import time

import structlog

from .errors import MongodError, hold_gate, in_plain_words
from .server import Server

POLL_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 30.0
STEADY_SECONDS = 60.0
"""How long a mongod has to run for its next end to count as the first one."""

log = structlog.get_logger(__name__)


class Watchdog:
    """A thread that checks whether mongod runs for as long as this process uses it.

    Each process that uses mongod has a watchdog. The gate lets only one of them restart mongod.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mongod watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and cancel a restart that is in progress."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause, since, was_running = FIRST_PAUSE_SECONDS, time.monotonic(), True
        while not self._stopping.wait(POLL_SECONDS):
            try:
                with in_plain_words(self._server.home), hold_gate(self._server.gate):
                    if self._server.running():
                        was_running = True
                        continue
                    if time.monotonic() - since > STEADY_SECONDS:
                        pause = FIRST_PAUSE_SECONDS
                    if was_running:
                        reason = self._server.describe_end()
                        log.error("embedded MongoDB exited: restarting it", reason=reason)
                    was_running = False
                    self._server.ensure(same_port=True, is_cancelled=self._stopping.is_set)
                    since = time.monotonic()
                log.info("embedded MongoDB is running again")
            except MongodError as error:
                if self._stopping.is_set():
                    return
                log.error(
                    "embedded MongoDB cannot be restarted: retrying",
                    reason=str(error),
                    seconds=pause,
                )
            # One that ends as soon as it is started must not keep the machine busy.
            self._stopping.wait(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
