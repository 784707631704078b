"""A client of supervisord's XML-RPC interface on its unix socket: worker states, stop, start."""

import http.client
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .workers import WORKERS, UnixConnection

SOCKET_NAME = "supervisor.sock"
CHECK = "check"
"""The program under supervisord that validates the settings as a worker would."""
_TIMEOUT = 30.0  # seconds: stopping a worker takes up to supervisord's stopwaitsecs, 15 s
_NOT_RUNNING = 70  # supervisord's fault code for a process that is not running
_GAVE_UP = frozenset({"BACKOFF", "FATAL"})


class SupervisorError(Exception):
    """supervisord does not answer or rejects the request; the message says why."""


@dataclass(frozen=True)
class ProcessState:
    """The state of a process under supervisord.

    ``state`` is supervisord's name of the state. ``pid`` is 0 while the process does not run.
    ``started_at`` is its last start, in seconds since 1970. ``exit_code`` is the last exit code.
    """

    state: str
    pid: int
    started_at: int
    exit_code: int

    @property
    def has_ended(self) -> bool:
        """Whether the process exited before supervisord considered it started."""
        return self.state in _GAVE_UP


class Supervisor:
    """The supervisord of a run directory. Every method raises `SupervisorError`."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = run_dir / SOCKET_NAME

    def workers(self) -> dict[int, ProcessState]:
        """Return the state of each worker, by number."""
        with self._asking() as ask:
            told = {f"{entry['group']}:{entry['name']}": _state(entry) for entry in ask("getAllProcessInfo")}
        return {number: told[worker_name(number)] for number in range(1, WORKERS + 1) if worker_name(number) in told}

    def state(self, name: str) -> ProcessState:
        """Return the state of one process."""
        with self._asking() as ask:
            return _state(ask("getProcessInfo", name))

    def stop(self, name: str) -> None:
        """Stop a process if it runs, and wait until it has exited."""
        with self._asking() as ask:
            try:
                ask("stopProcess", name, True)
            except xmlrpc.client.Fault as fault:
                if fault.faultCode != _NOT_RUNNING:
                    raise

    def start(self, name: str) -> None:
        """Start a stopped process, without waiting until it runs."""
        with self._asking() as ask:
            ask("startProcess", name, False)

    def clear_output(self, name: str) -> None:
        """Delete the captured output of a process."""
        with self._asking() as ask:
            ask("clearProcessLogs", name)

    def output(self, name: str, size: int) -> str:
        """Return the last ``size`` bytes of the captured output of a process."""
        with self._asking() as ask:
            text, _, _ = ask("tailProcessStdoutLog", name, 0, size)
        return str(text)

    @contextmanager
    def _asking(self) -> Iterator[Callable[..., Any]]:
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=_Transport(self._socket)) as server:
                yield lambda method, *arguments: getattr(server.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise SupervisorError(f"supervisord rejected the request: {fault.faultString}") from None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise SupervisorError(f"supervisord cannot be reached at {self._socket}: {reason}") from None
        except (http.client.HTTPException, xmlrpc.client.Error) as error:
            raise SupervisorError(f"supervisord sent an invalid response: {type(error).__name__}") from None


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = UnixConnection(self._path, _TIMEOUT)
        self._connection = host, connection  # which `close` of the base class closes
        return connection


def worker_name(number: int) -> str:
    """Return supervisord's name of a worker."""
    return f"worker:worker-{number}"


def _state(entry: dict[str, Any]) -> ProcessState:
    return ProcessState(entry["statename"], entry["pid"], entry["start"], entry["exitstatus"])


class RestartLoops:
    """Detects workers that exit each time supervisord starts them."""

    def __init__(self, *, allowed: int) -> None:
        """``allowed`` is the number of consecutive short-lived starts before a worker counts as looping."""
        self._allowed = allowed
        self._starts: dict[int, set[int]] = {}

    def note(self, workers: dict[int, ProcessState]) -> list[int]:
        """Record the current states, and return the numbers of the workers that loop."""
        for number, worker in workers.items():
            if worker.has_ended:
                self._starts.setdefault(number, set()).add(worker.started_at)
            elif worker.state != "STARTING":
                self._starts.pop(number, None)
        return sorted(number for number, starts in self._starts.items() if len(starts) > self._allowed)
