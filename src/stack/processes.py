"""Child processes that terminate with their parent, even if it is killed."""

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
_HURRIED_SECONDS = 1.0
_KILL_SECONDS = 2.0  # for the kernel to remove killed processes


def start(
    command: Sequence[str | Path], environment: Mapping[str, str], inherited: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own, so that the terminal's Ctrl-C does not reach it.

    On Linux, the kernel sends it SIGTERM when the parent exits, even by SIGKILL.
    """
    parent = os.getpid()

    def terminate_with_parent() -> None:
        if sys.platform == "linux":
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:  # it exited before the line above
                os._exit(1)

    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=inherited,
        preexec_fn=terminate_with_parent,  # noqa: PLW1509 (it takes no lock that another thread may hold)
    )


def stop(child: subprocess.Popen[bytes], number: signal.Signals, seconds: float, hurried: Callable[[], bool]) -> None:
    """Signal the child, wait until its session is empty, and kill the remaining processes after ``seconds``.

    If the child has already exited, the processes that it left get SIGTERM. ``hurried`` shortens the wait.
    """
    if child.poll() is None:
        child.send_signal(number)
    else:
        _signal(_session(child.pid), signal.SIGTERM)
    began = time.monotonic()
    while child.poll() is None or _session(child.pid):
        if time.monotonic() - began > (min(seconds, _HURRIED_SECONDS) if hurried() else seconds):
            _signal(_session(child.pid), signal.SIGKILL)
            _await_killed(child)
            break
        time.sleep(_POLL)


def _await_killed(child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _KILL_SECONDS
    while (child.poll() is None or _session(child.pid)) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _signal(processes: Sequence[int], number: signal.Signals) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process, number)


def _session(leader: int) -> list[int]:
    """Return the running processes of a session; supervisord gives each worker its own group, but no session."""
    members = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # A zombie that no process reaps does not run.
            if os.getsid(int(entry.name)) == leader and not _is_zombie(entry):
                members.append(int(entry.name))
    return members


def _is_zombie(entry: Path) -> bool:
    # proc(5): the state follows the command's name in parentheses, which may contain any character.
    return (entry / "stat").read_bytes().rpartition(b") ")[2].startswith(b"Z")
