"""Child processes that end with their parent, whatever ends the parent."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)
_LIBC = ctypes.CDLL(None)
_POLL = 0.05  # seconds
_HURRIED_PATIENCE = 1.0
_KILL_PATIENCE = 2.0  # seconds that the kernel gets to remove killed processes


def start(
    command: Sequence[str | Path], environment: Mapping[str, str], inherited: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that the terminal's Ctrl-C does not reach it.

    On Linux the kernel sends it SIGTERM when the parent dies, be it by SIGKILL.
    """
    parent = os.getpid()

    def end_with_parent() -> None:
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it died before the line above
                os._exit(1)

    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=inherited,
        preexec_fn=end_with_parent,  # noqa: PLW1509 (it takes no lock that another thread may hold)
    )


def end(child: subprocess.Popen[bytes], number: signal.Signals, patience: float, hurried: Callable[[], bool]) -> None:
    """Signal the child, wait until its whole session is gone, and kill what is left after ``patience`` seconds.

    A child that is dead already may have left children of its own: they get SIGTERM. ``hurried`` cuts the wait short.
    """
    if child.poll() is None:
        child.send_signal(number)
    else:
        _signal(_session(child.pid), signal.SIGTERM)
    began = time.monotonic()
    while child.poll() is None or _session(child.pid):
        if time.monotonic() - began > (min(patience, _HURRIED_PATIENCE) if hurried() else patience):
            _signal(_session(child.pid), signal.SIGKILL)
            _wait_for_the_killed(child)
            break
        time.sleep(_POLL)


def _wait_for_the_killed(child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _KILL_PATIENCE
    while (child.poll() is None or _session(child.pid)) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _session(leader: int) -> list[int]:
    """List the living processes of a session; supervisord gives each worker a group, but no session, of its own."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # An orphan that nobody reaps is no more than an entry in a table.
            if os.getsid(int(entry.name)) == leader and not _is_zombie(entry):
                members.append(int(entry.name))
    return members


def _is_zombie(entry: Path) -> bool:
    # proc(5): the state follows the command's name, which stands in parentheses and may hold any character.
    return (entry / "stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
