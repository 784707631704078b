"""``restart``: a rolling restart of the workers of a running stack."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..core.files import locked
from ..core.supervisor import CHECK, RestartLoops, Supervisor, SupervisorError, worker_name
from ..core.workers import WORKERS, UnixConnection, is_ready, locate_run_directory, worker_sockets
from ..settings import SettingsError, data_directory
from .output import CommandError, say

READY_SECONDS = 60.0
"""Seconds within which a worker must become ready."""
_CHECK_SECONDS = 60.0
_POLL_SECONDS = 0.2
_SHORT_STARTS = 1  # consecutive; one more is a failure
_OUTPUT_BYTES = 2000


def restart_workers() -> None:
    """Restart the workers of the stack one by one, without dropping a request.

    Checks the settings first. Stops at the first worker that does not become ready; the others keep their old settings.
    """
    run_dir = find_run_directory()
    supervisor = Supervisor(run_dir)
    try:
        with _restart_lock(run_dir):
            _check_settings(supervisor)
            for number, path in enumerate(worker_sockets(run_dir), start=1):
                _restart(supervisor, number, path)
                say(f"worker {number} of {WORKERS} is ready")
    except SupervisorError as error:
        raise CommandError(
            f"{error}. Run this command as the user of the service, while the stack is running."
        ) from None


def find_run_directory() -> Path:
    """Return the directory of the workers' sockets: ``RUN_DIR`` in a container, else that of the data directory.

    Raises `CommandError` if no stack is running.
    """
    given = os.environ.get("RUN_DIR")
    run_dir = Path(given) if given else locate_run_directory(data_directory())
    if not run_dir.is_dir() or not any(path.exists() for path in (run_dir / "supervisor.sock", run_dir / "lock")):
        raise CommandError(
            f"no stack has its sockets in {run_dir}. Run this command where the stack was started, with"
            " the same SEALPOST_DATA_DIR."
        )
    return run_dir


@contextmanager
def _restart_lock(run_dir: Path) -> Iterator[None]:
    """Hold the lock for restarts. Raises `CommandError` if another command holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(run_dir / "restart.lock"))
        except BlockingIOError:
            raise CommandError("another restart is in progress. Wait for it to finish.") from None
        yield


def _check_settings(supervisor: Supervisor) -> None:
    """Have supervisord validate the configuration in the workers' own environment. Raises `SettingsError`."""
    supervisor.stop(CHECK)
    supervisor.clear_output(CHECK)
    supervisor.start(CHECK)
    deadline = time.monotonic() + _CHECK_SECONDS
    while (check := supervisor.state(CHECK)).state not in {"EXITED", "FATAL"}:
        if time.monotonic() > deadline:
            raise CommandError("the check of the settings timed out. Nothing was restarted. A disk may be hanging.")
        time.sleep(_POLL_SECONDS)
    if check.state != "EXITED" or check.exit_code != 0:
        output = supervisor.output(CHECK, _OUTPUT_BYTES).strip()
        raise SettingsError(f"workers cannot start with these settings. Nothing was restarted.\n{output}")


def _restart(supervisor: Supervisor, number: int, path: Path) -> None:
    """Restart a worker and wait until it is ready. Raises `CommandError`; the worker is then stopped."""
    name = worker_name(number)
    supervisor.stop(name)
    supervisor.start(name)
    loops = RestartLoops(allowed=_SHORT_STARTS)
    deadline = time.monotonic() + READY_SECONDS
    reason = ""
    while not reason:
        if is_ready(UnixConnection(path)):
            return
        if loops.note({number: supervisor.state(name)}):
            reason = "it exits repeatedly"
        elif time.monotonic() > deadline:
            reason = (
                f"it listens, but is not ready after {READY_SECONDS:.0f} s" if path.exists() else "it does not listen"
            )
        else:
            time.sleep(_POLL_SECONDS)
    output = supervisor.output(name, _OUTPUT_BYTES).strip()
    # nginx sends requests to every worker that listens, ready or not.
    supervisor.stop(name)
    others = ", ".join(str(other) for other in range(number + 1, WORKERS + 1))
    left = f" Workers {others} keep running with their old settings." if others else ""
    raise CommandError(
        f"worker {number} is not ready: {reason}. It was stopped and the restart aborted.{left} See"
        f" worker-{number}.jsonl and worker-{number}.err in the log directory, fix the cause, and run this again."
        + (f"\nworker-{number}.err ends with:\n{output}" if output else "")
    )
