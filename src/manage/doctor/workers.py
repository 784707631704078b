"""Checks of the workers of a stack, each on its socket."""

import asyncio
import errno
import stat
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from pathlib import Path

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector

from ...core.workers import WORKERS, locate_run_directory, worker_sockets
from ...settings import Settings
from .examination import Finding, Outcome, describe_os_error, examine, failed, in_thread, not_checked, ok

_START = "See its worker-N.jsonl and worker-N.err in the log directory. supervisord restarts a worker that exits."
_OTHERS_OPEN = 0o002


async def examine_workers(settings: Settings | None, environment: Mapping[str, str]) -> AsyncIterator[Finding]:
    """Check each worker of the stack in ``RUN_DIR``, in a container, or else on the data directory, if there is one."""
    names = [f"worker {number}" for number in range(1, WORKERS + 1)]
    run_dir = Path(environment["RUN_DIR"]) if environment.get("RUN_DIR") else None
    if run_dir is None and settings is not None:
        located = locate_run_directory(settings.data_dir)
        run_dir = located if await in_thread(lambda: _has_stack(located)) else None
    if run_dir is None:
        for name in names:
            yield Finding(name, not_checked("no stack is running here; a single process has no socket"))
        return
    sockets = zip(names, worker_sockets(run_dir), strict=True)
    # Concurrently, so that 4 hanging workers take no longer than one.
    for finding in await asyncio.gather(*(examine(name, _ask(socket)) for name, socket in sockets)):
        yield finding


def _has_stack(run_dir: Path) -> bool:
    return (run_dir / "supervisord.pid").exists() or any(path.exists() for path in worker_sockets(run_dir))


async def _ask(path: Path) -> Outcome:
    try:
        mode = stat.S_IMODE((await in_thread(path.stat)).st_mode)
    except FileNotFoundError:
        return failed(f"{path} does not exist: the worker is not running, or is starting", _START)
    if mode & _OTHERS_OPEN:
        return failed(
            f"{path} has mode {mode:04o}: any user who can open it can forge client addresses",
            f"chmod 660 {path}, which is how the worker creates it, and find out what changed it.",
        )
    try:
        async with (
            ClientSession(connector=UnixConnector(str(path)), timeout=ClientTimeout(total=None)) as client,
            client.get("http://worker/readyz") as answer,
        ):
            status = answer.status
    except ClientError as error:
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM}:
            return not_checked(f"{path} cannot be opened by this user", "Run this command as the user of the service.")
        reason = describe_os_error(error) if isinstance(error, OSError) else type(error).__name__
        return failed(f"no answer at {path}: {reason}", _START)
    if status != HTTPStatus.OK:
        return failed(f"answers {status} at {path}: it is waiting for MongoDB", "See the checks of MongoDB above.")
    return ok(f"ready, at {path} with mode {mode:04o}")
